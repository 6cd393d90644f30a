//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"maps"
	"runtime"
	"unsafe"
)

// Function is one function of a plugin, resolved once: the fast way to call it. It ends with the Runner.
type Function struct {
	runner *Runner
	handle *handle
	name   string
	trust  bool
}

// Function resolves a function. Errors: [ErrUnknownFunction], [ErrNotFound] (the manifest does not provide it), [ErrInvalidState] before Load.
func (r *Runner) Function(name string, opts ...FunctionOption) (*Function, error) {
	var o functionOptions
	for _, opt := range opts {
		opt(&o)
	}
	p, err := r.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release()
	f, err := takeFrame(context.Background())
	if err != nil {
		return nil, err
	}
	defer f.giveBack()
	ptr, n := charsOf(name)
	if status := C.fp_function_new(p.ptr, ptr, n, f.c); status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	fn := &Function{
		runner: r, name: name, trust: o.trustJSON,
		handle: newHandle(f.c.handle, func(p unsafe.Pointer) { C.fp_function_free(p) }),
	}
	runtime.AddCleanup(fn, (*handle).close, fn.handle)
	return fn, nil
}

// Close lets the function go. The plugin stays. It does not block, and may be called again. It returns nil.
func (fn *Function) Close() error {
	fn.handle.close()
	return nil
}

// Call calls the function with params, JSON or nil, and returns its JSON. Errors: [ErrPlugin] with the plugin's own
// text in PluginMessage, [ErrTimeout], [ErrCancelled], [ErrBusy], [ErrTrap] and others; errors.Is(err,
// context.DeadlineExceeded) or context.Canceled if ctx ended the call.
func (fn *Function) Call(ctx context.Context, params json.RawMessage) (json.RawMessage, error) {
	if !fn.handle.acquire() {
		return nil, fn.runner.wrongState("the Function is closed")
	}
	defer fn.handle.release()
	f, err := takeFrame(ctx)
	if err != nil {
		return nil, fn.named(err)
	}
	defer f.giveBack()
	// A caller may drop Function, Runner and Host in the middle of the call; if they were collected then, it would be ended.
	defer runtime.KeepAlive(fn)
	if fn.trust {
		f.c.options.flags = C.FLOWPLUG_CALL_TRUST_JSON
	}
	ptr, n := chars(params)
	switch status := C.fp_function_call(C.uintptr_t(uintptr(fn.handle.ptr)), ptr, n, C.uintptr_t(uintptr(unsafe.Pointer(f.c)))); status {
	case C.FLOWPLUG_OK:
		result := f.take()
		f.makeRoom(len(result))
		return result, nil
	case C.FP_NO_THREAD:
		return fn.runner.callWithoutThread(ctx, f, fn.name, params)
	default:
		return nil, f.failed(ctx, f.error(status))
	}
}

func (fn *Function) named(err error) error {
	err = fn.runner.named(err)
	if e, ok := err.(*Error); ok {
		e.Function = fn.name
	}
	return err
}

// Call calls a function of the plugin by its name, as [Function.Call] does.
func (r *Runner) Call(ctx context.Context, function string, params json.RawMessage) (json.RawMessage, error) {
	if known := r.functions.Load(); known != nil {
		if fn := (*known)[function]; fn != nil {
			return fn.Call(ctx, params)
		}
	}
	fn, err := r.Function(function)
	if err != nil {
		return r.callUnresolved(ctx, function, params)
	}
	if !r.cache(fn) {
		defer fn.handle.close()
	}
	return fn.Call(ctx, params)
}

// cache keeps a function for the next call of its name, and with it what it resolved to: readers go through an
// immutable map, without a lock. False if it was not kept.
func (r *Runner) cache(fn *Function) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]*Function{}
	if known := r.functions.Load(); known != nil {
		if len(*known) >= maxCached || (*known)[fn.name] != nil {
			return false
		}
		next = maps.Clone(*known)
	}
	if r.closed {
		return false
	}
	next[fn.name] = fn
	r.functions.Store(&next)
	return true
}

// callUnresolved has the library refuse the call: it counts those too.
func (r *Runner) callUnresolved(ctx context.Context, function string, params []byte) (json.RawMessage, error) {
	f, err := takeFrame(ctx)
	if err != nil {
		return nil, r.named(err)
	}
	defer f.giveBack()
	return r.callWithoutThread(ctx, f, function, params)
}

// callWithoutThread makes a call for which the goroutine waits, and no thread does.
func (r *Runner) callWithoutThread(ctx context.Context, f *frame, function string, params []byte) (json.RawMessage, error) {
	if err := tellEnded(); err != nil {
		return nil, r.named(err)
	}
	p, err := r.acquire()
	if err != nil {
		return nil, err
	}
	name, nameLen := charsOf(function)
	ptr, n := chars(params)
	status := C.fp_plugin_call_async(p.ptr, name, nameLen, ptr, n, f.c)
	// The library holds what the call needs; a Close must not wait for its end, since it is what ends it.
	p.release()
	if status != C.FLOWPLUG_OK {
		return nil, f.failed(ctx, f.error(status))
	}
	// The library completes every call that it accepted, at its deadline or its cancel at the latest.
	<-f.ended
	runtime.KeepAlive(r)
	if status := f.c.status; status != C.FLOWPLUG_OK {
		return nil, f.failed(ctx, f.error(status))
	}
	return f.take(), nil
}
