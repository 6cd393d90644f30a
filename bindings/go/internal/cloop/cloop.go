//go:build cgo && linux && !flowplug_static

// Package cloop makes calls in a loop in C: what a call through Go is measured against.
package cloop

/*
#cgo pkg-config: flowplug
#include <flowplug.h>
#include <string.h>

// The same call as the binding's: into a buffer of the caller's, the result copied out once.
static int32_t cloop_calls(void *function, const char *params, size_t len, uint64_t timeout_ns, uint64_t cancel, uint64_t n) {
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  static _Thread_local uint8_t buf[65536], copy[65536];
  flowplug_str in = {params, len};
  options.timeout_ns = timeout_ns;
  options.cancel = cancel;
  for (uint64_t i = 0; i < n; i++) {
    flowplug_bytes out;
    flowplug_status status = flowplug_function_call(function, in, &options, buf, sizeof buf, &out, NULL);
    if (status != FLOWPLUG_OK) return status;
    memcpy(copy, out.ptr, out.len < sizeof copy ? out.len : sizeof copy);
    __asm__ volatile("" : : "r"(copy) : "memory");
  }
  return FLOWPLUG_OK;
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Calls calls a flowplug_function n times with params, each bounded by timeoutNS (0: not) and, if it can end, by a cancel token.
func Calls(function unsafe.Pointer, params []byte, timeoutNS uint64, canEnd bool, n int) error {
	var token C.uint64_t
	if canEnd {
		if status := C.flowplug_cancel_new(&token, nil); status != C.FLOWPLUG_OK {
			return fmt.Errorf("making a cancel token answered %d", status)
		}
		defer C.flowplug_cancel_free(token)
	}
	ptr := (*C.char)(unsafe.Pointer(unsafe.SliceData(params)))
	if status := C.cloop_calls(function, ptr, C.size_t(len(params)), C.uint64_t(timeoutNS), token, C.uint64_t(n)); status != C.FLOWPLUG_OK {
		return fmt.Errorf("a call answered %d", status)
	}
	return nil
}
