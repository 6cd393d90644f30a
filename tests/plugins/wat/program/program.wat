(module
  ;; Nothing but `_start`: a program, not a library.
  (memory (export "memory") 1)
  (func (export "_start")))
