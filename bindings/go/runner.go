//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// maxCached is how many functions a Runner keeps resolved for Call; names beyond are resolved for every call.
const maxCached = 64

// Runner is one plugin: Load, Start, Call, Health, Stop, Close. It can be used from any number of goroutines at once.
type Runner struct {
	host     *Host
	identity string
	options  runnerOptions

	mu        sync.Mutex // guards closed, loading, and changes of plugin and functions
	closed    bool
	loading   bool
	plugin    atomic.Pointer[handle] // nil before Load
	functions atomic.Pointer[map[string]*Function]
}

// Load loads the plugin: finds and checks the artifact, compiles the module or starts the process. A Load that failed may be
// tried again. Errors: [ErrInvalidManifest], [ErrPermissionDenied] (past the policy, Details say what would grant it), [ErrLoadFailed],
// [ErrInvalidState] if a plugin is loaded already.
func (r *Runner) Load(ctx context.Context, m *Manifest) (*PluginInfo, error) {
	if err := r.beginLoad(); err != nil {
		return nil, err
	}
	p, info, err := r.load(ctx, m)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loading = false
	if err != nil {
		return nil, r.named(err)
	}
	if r.closed {
		p.close()
		return nil, r.wrongState("the Runner was closed meanwhile")
	}
	r.plugin.Store(p)
	runtime.AddCleanup(r, (*handle).close, p)
	return info, nil
}

// beginLoad keeps other loads away, and does not hold the lock that Close needs.
func (r *Runner) beginLoad() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.loading || r.plugin.Load() != nil {
		return r.wrongState("a Runner loads one plugin; make a new one")
	}
	r.loading = true
	return nil
}

func (r *Runner) load(ctx context.Context, m *Manifest) (*handle, *PluginInfo, error) {
	policy, err := policyJSON(r.options.policy)
	if err != nil {
		return nil, nil, err
	}
	if !r.host.handle.acquire() {
		return nil, nil, r.wrongState("the Host is closed")
	}
	defer r.host.handle.release()
	f, err := takeFrame(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer f.giveBack()
	manifest, err := f.ofManifest(m)
	if err != nil {
		return nil, nil, err
	}
	defer C.fp_manifest_free(manifest)
	var user C.uintptr_t
	var api C.uint32_t
	if own := r.options.api; own != nil {
		of := r.host.target
		user, api = newTarget(own, of.logger, nil).register()
	}
	id, idLen := charsOf(r.identity)
	text, textLen := chars(policy)
	if status := C.fp_plugin_load(r.host.handle.ptr, manifest, id, idLen, text, textLen, user, api, f.c); status != C.FLOWPLUG_OK {
		return nil, nil, f.failed(ctx, f.error(status))
	}
	p := newHandle(f.c.handle, func(p unsafe.Pointer) { C.fp_plugin_free(p) })
	info, err := f.info(p.ptr)
	if err != nil {
		p.close()
		return nil, nil, err
	}
	return p, info, nil
}

func (f *frame) info(plugin unsafe.Pointer) (*PluginInfo, error) {
	if status := C.fp_plugin_info(plugin, f.c); status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	return parseInfo(f.take())
}

// Start checks config against the manifest's schema and hands it to the plugin; nil is no config. Errors: [ErrInvalidConfig] (may
// be tried again), [ErrStartFailed] with the plugin's own text, [ErrInvalidState] if it was started before.
func (r *Runner) Start(ctx context.Context, config json.RawMessage) error {
	return r.with(ctx, func(f *frame, plugin unsafe.Pointer) error {
		ptr, n := chars(config)
		return f.check(C.fp_plugin_start(plugin, ptr, n, f.c))
	})
}

// Stop refuses new calls, gives those in flight until ctx's deadline (30 s if it has none, no time if it has ended) and ends the
// rest with [ErrCancelled]. Again, and before Load, it does nothing. A cancel of ctx while it waits does not shorten the wait.
// [ErrTimeout]: a method of the HostAPI has not returned to a call of the plugin; it is stopped, and another Stop waits for that one.
func (r *Runner) Stop(ctx context.Context) error {
	if r.plugin.Load() == nil {
		return nil
	}
	// Without ctx's end: it bounds the drain and must not keep the plugin from being stopped.
	return r.with(context.WithoutCancel(ctx), func(f *frame, plugin unsafe.Pointer) error {
		if at, ok := ctx.Deadline(); ok {
			f.c.options.timeout_ns = C.uint64_t(max(time.Until(at), 1))
		}
		if ctx.Err() != nil {
			f.c.options.timeout_ns = 1
		}
		return f.check(C.fp_plugin_stop(plugin, f.c))
	})
}

// Reload puts the plugin of m in the place of the one that runs, with config (nil: as before), without a call that is refused or lost:
// it loads and starts the new one, waits until it is ready, lets new calls find it, gives those of the old one 30 seconds to end, and
// stops that. ctx bounds what comes before the exchange. On an error the plugin is as it was: what loading and starting can fail with,
// and [ErrInvalidState] unless it is running or in error, while it is started or reloaded, and inside a callback of its own call.
func (r *Runner) Reload(ctx context.Context, m *Manifest, config json.RawMessage) error {
	return r.with(ctx, func(f *frame, plugin unsafe.Pointer) error {
		manifest, err := f.ofManifest(m)
		if err != nil {
			return r.named(err)
		}
		defer C.fp_manifest_free(manifest)
		ptr, n := chars(config)
		return f.check(C.fp_plugin_reload(plugin, manifest, ptr, n, f.c))
	})
}

// Health asks how the plugin is, in every state. What is wrong with it is LastError, not an error.
func (r *Runner) Health(ctx context.Context) (health *HealthStatus, err error) {
	err = r.with(ctx, func(f *frame, plugin unsafe.Pointer) error {
		if err := f.check(C.fp_plugin_health(plugin, f.c)); err != nil {
			return err
		}
		health, err = parseHealth(f.take())
		return err
	})
	return health, err
}

// State returns where the plugin is in its life: StateLoading before Load, StateStopped after Close.
func (r *Runner) State() PluginState {
	p := r.plugin.Load()
	if p == nil {
		return StateLoading
	}
	if !p.acquire() {
		return StateStopped
	}
	defer p.release()
	if n := int(C.fp_plugin_state(p.ptr)); n >= 0 && n < len(stateNames) {
		return stateNames[n]
	}
	return StateError
}

// Identity returns the identity given to NewRunner.
func (r *Runner) Identity() string { return r.identity }

// Close lets the plugin go, with its Functions: what still runs is ended in the background, without a drain. Stop first to
// let calls end. It does not block, and may be called again. It returns nil.
func (r *Runner) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if known := r.functions.Swap(nil); known != nil {
		for _, fn := range *known {
			fn.handle.close()
		}
	}
	if p := r.plugin.Load(); p != nil {
		p.close()
	}
	return nil
}

// with runs one call of the library on the plugin.
func (r *Runner) with(ctx context.Context, call func(*frame, unsafe.Pointer) error) error {
	p, err := r.acquire()
	if err != nil {
		return err
	}
	defer p.release()
	f, err := takeFrame(ctx)
	if err != nil {
		return r.named(err)
	}
	defer f.giveBack()
	err = call(f, p.ptr)
	runtime.KeepAlive(r)
	var e *Error
	if errors.As(err, &e) {
		return f.failed(ctx, e)
	}
	return err
}

// acquire returns the plugin for use; the caller releases it.
func (r *Runner) acquire() (*handle, error) {
	p := r.plugin.Load()
	if p == nil {
		return nil, r.wrongState("nothing is loaded; call Load first")
	}
	if !p.acquire() {
		return nil, r.wrongState("the Runner is closed")
	}
	return p, nil
}

func (r *Runner) wrongState(what string) error {
	return &Error{Status: StatusInvalidState, Plugin: r.identity, Message: "That is not possible now: " + what + "."}
}

// named adds who it was to an error that was made before the library knew.
func (r *Runner) named(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Plugin == "" {
		e.Plugin = r.identity
	}
	return err
}
