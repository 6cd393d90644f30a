(module
  ;; is_ready is ready at exactly 1; this one answers 2.
  (memory (export "memory") 2)
  (data (i32.const 16) "{\"data\":true}")
  (func (export "alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "command") (param i32 i32) (result i64) (i64.const 68719476749))
  (func (export "is_ready") (result i32) (i32.const 2)))
