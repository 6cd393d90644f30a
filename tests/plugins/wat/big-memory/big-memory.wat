(module
  ;; Starts with more memory than the manifest's limit.
  (memory (export "memory") 2000)
  (func (export "alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "command") (param i32 i32) (result i64) (i64.const 0)))
