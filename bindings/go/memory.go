//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import "unsafe"

// takeError copies an error of the library and frees it.
func takeError(status C.flowplug_status, from *C.flowplug_error) *Error {
	e := &Error{Status: Status(status)}
	if from == nil {
		e.Message = "The library gave no reason."
		return e
	}
	var v C.fp_error_view
	C.fp_error_read(from, &v)
	e.Message, e.Plugin, e.Function, e.PluginMessage = text(v.message), text(v.plugin), text(v.function), text(v.plugin_message)
	if v.details.len > 0 {
		e.Details = copied(unsafe.Pointer(v.details.ptr), v.details.len)
	}
	C.flowplug_error_free(from)
	return e
}

// text copies a string of the library.
func text(s C.flowplug_str) string {
	if s.len == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(s.ptr)), int(s.len)))
}

// copied copies bytes of the library; never nil.
func copied(ptr unsafe.Pointer, n C.size_t) []byte {
	if n == 0 {
		return []byte{}
	}
	from := unsafe.Slice((*byte)(ptr), int(n))
	to := make([]byte, len(from))
	copy(to, from)
	return to
}

// chars and charsOf are the arguments that a C function borrows for the call.
func chars(b []byte) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(b))), C.size_t(len(b))
}

func charsOf(s string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s))
}
