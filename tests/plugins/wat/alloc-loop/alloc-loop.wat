(module
  ;; An endless `alloc`: the host hangs before it has even called the function.
  (memory (export "memory") 2)
  (data (i32.const 16) "{\"data\":true}")
  (func (export "alloc") (param i32) (result i32) (loop $l (br $l)) unreachable)
  (func (export "void") (result i64) (i64.const 68719476749))
  (func (export "command") (param i32 i32) (result i64) (i64.const 68719476749)))
