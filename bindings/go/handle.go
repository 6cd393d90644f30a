package flowplug

import (
	"sync/atomic"
	"unsafe"
)

// handle owns a pointer of the library. It is freed when it is closed and nobody uses it any longer: Close may come from
// one goroutine while another is on its way into a call.
type handle struct {
	ptr  unsafe.Pointer
	free func(unsafe.Pointer)
	// state counts the users below closedBit.
	state atomic.Int64
}

const closedBit = int64(1) << 62

func newHandle(ptr unsafe.Pointer, free func(unsafe.Pointer)) *handle {
	return &handle{ptr: ptr, free: free}
}

// acquire makes sure that the pointer stays valid until release; false once it is closed.
func (h *handle) acquire() bool {
	for {
		n := h.state.Load()
		if n&closedBit != 0 {
			return false
		}
		if h.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *handle) release() {
	if h.state.Add(-1) == closedBit {
		h.free(h.ptr)
	}
}

// close frees the pointer, now or when its last user releases it. Again does nothing. It never blocks.
func (h *handle) close() {
	for {
		n := h.state.Load()
		if n&closedBit != 0 {
			return
		}
		if h.state.CompareAndSwap(n, n|closedBit) {
			if n == 0 {
				h.free(h.ptr)
			}
			return
		}
	}
}

// closed reports whether close was called.
func (h *handle) closed() bool { return h.state.Load()&closedBit != 0 }
