//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	firstBuffer = 4 << 10
	// lastBuffer is the largest result that is copied once; one past it costs an allocation in C and a second crossing.
	lastBuffer = 256 << 10
)

// frame is what one call needs beside its arguments: C memory for options and result, a cancel token, and a place in the
// table by which a callback finds the call's context. Frames are never freed but used again: there are as
// many as calls were ever in flight at once.
type frame struct {
	id    uint32
	c     *C.fp_call
	lease *lease // while it serves a call

	// token is fired by fire, which holds its number for itself: it may run when the frame serves another call already.
	token uint64
	fire  func()
	stop  func() bool

	// ended tells of the end of a call that no thread waited for.
	ended chan struct{}

	// Written by the call under mu, read by callbacks.
	mu    sync.Mutex
	turn  uint32 // counts the contexts that the frame served
	ctx   context.Context
	fired bool // the token was, by a callback
}

// lease is the right to use a frame. Idle ones wait in a pool, which costs a call no lock; when the collector
// empties the pool, their frames go back to the list of the free ones.
type lease struct{ frame *frame }

var (
	leases sync.Pool
	frames struct {
		all  atomic.Pointer[[]*frame]
		mu   sync.Mutex // guards changes of all, and free
		free []*frame
	}
)

// takeFrame returns a frame for a call whose context is ctx.
func takeFrame(ctx context.Context) (*frame, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextEnded(err)
	}
	forceGC()
	l, _ := leases.Get().(*lease)
	if l == nil {
		l = &lease{frame: freeFrame()}
		runtime.AddCleanup(l, recycle, l.frame)
	}
	f := l.frame
	f.lease = l
	if err := f.arm(ctx); err != nil {
		f.giveBack()
		return nil, err
	}
	return f, nil
}

func recycle(f *frame) {
	frames.mu.Lock()
	defer frames.mu.Unlock()
	frames.free = append(frames.free, f)
}

func freeFrame() *frame {
	frames.mu.Lock()
	defer frames.mu.Unlock()
	if n := len(frames.free); n > 0 {
		f := frames.free[n-1]
		frames.free = frames.free[:n-1]
		return f
	}
	f := &frame{c: C.fp_call_new(), ended: make(chan struct{}, 1), ctx: context.Background()}
	if f.c == nil {
		panic("flowplug: no memory for a call")
	}
	f.grow(firstBuffer)
	var all []*frame
	if known := frames.all.Load(); known != nil {
		all = *known
	}
	f.id = uint32(len(all)) + 1
	f.c.id = C.uint32_t(f.id)
	// Readers hold the old slice; append never writes what they can see.
	all = append(all, f)
	frames.all.Store(&all)
	return f
}

// grow makes room for results of n bytes.
func (f *frame) grow(n int) {
	C.free(unsafe.Pointer(f.c.buf))
	f.c.buf = (*C.uint8_t)(C.malloc(C.size_t(n)))
	f.c.cap = C.size_t(n)
}

// arm sets the options of a call: deadline, cancel token, parent, and the tag by which callbacks find ctx.
func (f *frame) arm(ctx context.Context) error {
	o := &f.c.options
	o.timeout_ns, o.cancel, o.parent, o.flags = 0, 0, 0, 0
	if at, ok := ctx.Deadline(); ok {
		// Never 0, which is the default.
		o.timeout_ns = C.uint64_t(max(time.Until(at), 1))
	}
	if call := hostCallFrom(ctx); call != nil && call.request != 0 && call.open.Load() {
		o.parent = C.uint64_t(call.request)
	}
	if ctx.Done() != nil && f.token == 0 {
		if err := f.newToken(); err != nil {
			return err
		}
	}
	// From one call without a context of its own to the next nothing changes for callbacks.
	if background := context.Background(); ctx != background || f.ctx != background || f.turn == 0 {
		f.mu.Lock()
		f.turn++
		f.ctx = ctx
		f.mu.Unlock()
		o.tag = C.uint64_t(f.turn)<<32 | C.uint64_t(f.id)
	}
	if ctx.Done() == nil {
		return nil
	}
	o.cancel = C.uint64_t(f.token)
	f.stop = context.AfterFunc(ctx, f.fire)
	return nil
}

func (f *frame) newToken() error {
	if status := C.fp_cancel_new(f.c); status != C.FLOWPLUG_OK {
		return f.error(status)
	}
	token := uint64(f.c.number)
	f.token = token
	f.fire = func() { C.flowplug_cancel(C.uint64_t(token)) }
	return nil
}

// giveBack ends the call's use of the frame.
func (f *frame) giveBack() {
	forceGC()
	if background := context.Background(); f.ctx != background {
		// True too if the context's own way to the token has begun.
		spent := f.stop != nil && !f.stop()
		f.mu.Lock()
		spent = spent || f.fired
		f.ctx, f.fired = background, false
		f.mu.Unlock()
		f.stop = nil
		if spent {
			// A token stays fired, so the next call needs another.
			C.flowplug_cancel_free(C.uint64_t(f.token))
			f.token, f.fire = 0, nil
		}
	}
	l := f.lease
	f.lease = nil
	leases.Put(l)
}

// fireByTag cancels a call whose context has ended at once: the context's own way there takes another goroutine, and the
// plugin may not see a host call fail and go on before the library knows why.
func fireByTag(tag uint64) {
	f := frameByTag(tag)
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Once the call is over the token waits for another.
	if f.turn == uint32(tag>>32) && f.ctx != context.Background() && f.token != 0 {
		f.fired = true
		C.flowplug_cancel(C.uint64_t(f.token))
	}
}

// frameByID returns the frame of a call that is under way.
func frameByID(id uint32) *frame { return (*frames.all.Load())[id-1] }

func frameByTag(tag uint64) *frame {
	all, id := frames.all.Load(), uint32(tag)
	if all == nil || id == 0 || int(id) > len(*all) {
		return nil
	}
	return (*all)[id-1]
}

// contextByTag returns the context of the call with this tag. Once the call has ended, and for no tag, it is the background.
func contextByTag(tag uint64) context.Context {
	f := frameByTag(tag)
	if f == nil {
		return context.Background()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.turn != uint32(tag>>32) {
		return context.Background()
	}
	return f.ctx
}

// take copies the result out, the one copy on its way, and frees it if it was not in the frame's buffer.
func (f *frame) take() []byte {
	result := copied(unsafe.Pointer(f.c.out.ptr), f.c.out.len)
	if f.c.out.owner != nil {
		C.flowplug_bytes_free(&f.c.out)
	}
	return result
}

// makeRoom lets the next result of this size fit the buffer.
func (f *frame) makeRoom(n int) {
	if n > int(f.c.cap) && n <= lastBuffer {
		size := int(f.c.cap)
		for size < n {
			size *= 2
		}
		f.grow(min(size, lastBuffer))
	}
}

// error takes the error over that the library left.
func (f *frame) error(status C.flowplug_status) *Error {
	e := takeError(status, f.c.error)
	f.c.error = nil
	return e
}

// check is nil for success, else the error that the library left.
func (f *frame) check(status C.flowplug_status) error {
	if status == C.FLOWPLUG_OK {
		return nil
	}
	return f.error(status)
}

// failed is the error of a call whose context may have ended it.
func (f *frame) failed(ctx context.Context, e *Error) *Error {
	cause := ctx.Err()
	if at, ok := ctx.Deadline(); ok && cause == nil && e.Status == StatusTimeout && !time.Now().Before(at) {
		// The library's clock was quicker than the context's timer.
		cause = context.DeadlineExceeded
	}
	switch {
	case cause == nil:
		return e
	case e.Status == StatusCancelled, e.Status == StatusTimeout && errors.Is(cause, context.DeadlineExceeded):
		return e.endedBy(cause)
	}
	// Something else was quicker, and may have come of it: a plugin whose host call was cancelled.
	e.cause = cause
	return e
}
