(module
  ;; `_start` beside functions, as older TinyGo makes them: run once per instance, and its proc_exit(0) is success.
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "{\"data\":0}")
  (func (export "alloc") (param i32) (result i32) (i32.const 65536))
  ;; The answer's digit counts the runs.
  (func (export "_start")
    (i32.store8 (i32.const 24) (i32.add (i32.load8_u (i32.const 24)) (i32.const 1)))
    (call $proc_exit (i32.const 0)))
  (func (export "command") (param i32 i32) (result i64) (i64.const 68719476746)))
