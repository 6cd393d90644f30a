(module
  ;; An endless `free`: the answer is there, and giving it back does not end.
  (memory (export "memory") 2)
  (data (i32.const 16) "{\"data\":true}")
  (func (export "alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "command") (param i32 i32) (result i64) (i64.const 68719476749))
  (func (export "free") (param i32) (loop $l (br $l))))
