//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"io"
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// Host is what plugins live in: the library's threads, the policy, and what answers their requests. A program
// may have any number of them.
type Host struct {
	handle *handle
	// target is what callbacks reach; a Runner with a HostAPI of its own takes the logger from it.
	target *target
}

// NewHost makes a host. Close it. Errors: [ErrInvalidArgument] for options that the library refuses, [ErrUnsupported].
func NewHost(opts ...HostOption) (*Host, error) {
	var o hostOptions
	for _, opt := range opts {
		opt(&o)
	}
	policy, err := policyJSON(o.policy)
	if err != nil {
		return nil, err
	}
	o.config.Policy = policy
	config, err := json.Marshal(o.config)
	if err != nil {
		return nil, &Error{Status: StatusInvalidArgument, Message: "The host's options cannot be written as JSON: " + err.Error()}
	}
	f, err := takeFrame(context.Background())
	if err != nil {
		return nil, err
	}
	defer f.giveBack()
	t := newTarget(o.api, o.logger, o.events)
	user, api := t.register()
	ptr, n := chars(config)
	if status := C.fp_host_new(ptr, n, user, api, f.c); status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	h := &Host{handle: newHandle(f.c.handle, func(p unsafe.Pointer) { C.fp_host_free(p) }), target: t}
	runtime.AddCleanup(h, (*handle).close, h.handle)
	return h, nil
}

// register makes the handle by which callbacks find the target, and says which of them there are. The library
// gives the handle back by flowplugGoDestroy, also where what it was registered for could not be made.
func (t *target) register() (user C.uintptr_t, api C.uint32_t) {
	if t.api != nil {
		api |= C.FP_API_REQUESTS | C.FP_API_LOG
	}
	if t.logger != nil {
		api |= C.FP_API_LOG
	}
	if t.events != nil {
		api |= C.FP_API_EVENT
	}
	if api == 0 {
		return 0, 0
	}
	registered.Add(1)
	return C.uintptr_t(cgo.NewHandle(t)), api
}

// Close ends every plugin of the host. When it has returned nil, no method of a HostAPI of this host runs or ever
// will, and everything of the host answers [ErrInvalidState]. Calls in flight are given the library's drain time. [ErrTimeout]: a
// method has not returned by then; Close may be called again. Called again after that it does nothing. From
// inside a method of the HostAPI it is [ErrInvalidState].
func (h *Host) Close() error {
	if !h.handle.acquire() {
		return nil
	}
	defer h.handle.release()
	f, err := takeFrame(context.Background())
	if err != nil {
		return err
	}
	defer f.giveBack()
	if status := C.fp_host_close(h.handle.ptr, f.c); status != C.FLOWPLUG_OK {
		e := f.error(status)
		if e.Status == StatusInvalidState && h.handle.closed() {
			return nil // another Close was quicker
		}
		return e
	}
	h.handle.close()
	return nil
}

// Admit says what Load would grant to the manifest under this identity, and loads nothing: of opts, [WithRunnerPolicy] alone
// counts. What is denied stands in the Admission, and is no error. Errors: [ErrInvalidManifest], [ErrInvalidConfig] in the
// policy, [ErrInvalidArgument] for the identity, [ErrInvalidState] once the Host is closed.
func (h *Host) Admit(identity string, m *Manifest, opts ...RunnerOption) (*Admission, error) {
	r := h.NewRunner(identity, opts...)
	policy, err := policyJSON(r.options.policy)
	if err != nil {
		return nil, err
	}
	if !h.handle.acquire() {
		return nil, r.wrongState("the Host is closed")
	}
	defer h.handle.release()
	f, err := takeFrame(context.Background())
	if err != nil {
		return nil, err
	}
	defer f.giveBack()
	manifest, err := f.ofManifest(m)
	if err != nil {
		return nil, r.named(err)
	}
	defer C.fp_manifest_free(manifest)
	id, idLen := charsOf(identity)
	text, textLen := chars(policy)
	if status := C.fp_host_admit(h.handle.ptr, manifest, id, idLen, text, textLen, f.c); status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	admission := new(Admission)
	if err := json.Unmarshal(f.take(), admission); err != nil {
		return nil, notUnderstood("report on the policy", err)
	}
	return admission, nil
}

// Metrics writes what operators count of all plugins of the host that are loaded, as Prometheus text: serve it as
// "text/plain; version=0.0.4". Errors: [ErrInvalidState] once the Host is closed, and those of w.
func (h *Host) Metrics(w io.Writer) error {
	if !h.handle.acquire() {
		return &Error{Status: StatusInvalidState, Message: "The Host is closed."}
	}
	defer h.handle.release()
	f, err := takeFrame(context.Background())
	if err != nil {
		return err
	}
	defer f.giveBack()
	if status := C.fp_host_metrics(h.handle.ptr, f.c); status != C.FLOWPLUG_OK {
		return f.error(status)
	}
	_, err = w.Write(f.take())
	return err
}

// NewRunner makes the runner of one plugin. identity is who the plugin is: its part of the KV store and
// of the policy go by it. It loads nothing yet.
func (h *Host) NewRunner(identity string, opts ...RunnerOption) *Runner {
	r := &Runner{host: h, identity: identity}
	for _, opt := range opts {
		opt(&r.options)
	}
	return r
}
