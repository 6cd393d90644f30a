(module
  ;; A function of the dispatch table with a type it cannot have.
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 0))
  (func (export "command") (param i64) (result i32) (i32.const 0)))
