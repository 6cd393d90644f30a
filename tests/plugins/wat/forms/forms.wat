(module
  ;; One function of the host imported in each of its forms, beside each other. The answer adds up the sizes that the three
  ;; give for a value of four bytes.
  (import "flowbot" "kv_set" (func $kv_set (param i32 i32 i32 i32) (result i32)))
  (import "flowbot" "kv_get" (func $written (param i32 i32 i32) (result i32)))
  (import "flowbot" "kv_get" (func $value (param i32 i32) (result i64)))
  (import "flowbot" "kv_get" (func $checked (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "{\"data\":00}")
  (data (i32.const 64) "keyabcd")
  (func (export "alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "sum") (result i64)
    (local $sum i32)
    (drop (call $kv_set (i32.const 64) (i32.const 3) (i32.const 67) (i32.const 4)))
    (local.set $sum
      (i32.add
        (i32.add
          (call $written (i32.const 64) (i32.const 3) (i32.const 1024))
          (i32.wrap_i64 (call $value (i32.const 64) (i32.const 3))))
        (call $checked (i32.const 64) (i32.const 3) (i32.const 1024) (i32.const 4))))
    (i32.store8 (i32.const 24) (i32.add (i32.const 48) (i32.div_u (local.get $sum) (i32.const 10))))
    (i32.store8 (i32.const 25) (i32.add (i32.const 48) (i32.rem_u (local.get $sum) (i32.const 10))))
    (i64.const 68719476747)))
