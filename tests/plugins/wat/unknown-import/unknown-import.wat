(module
  ;; Imports what no host has; a load error lists both.
  (import "flowbot" "read_minds" (func (param i32)))
  (import "env" "abort" (func (param i32 i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "{\"data\":true}")
  (func (export "alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "command") (param i32 i32) (result i64) (i64.const 68719476749))
)
