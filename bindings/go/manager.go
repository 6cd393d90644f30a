//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// Manager runs the plugins of folders, and follows them as they change. It can be used from any number of goroutines at once.
type Manager struct {
	host *Host

	mu     sync.Mutex // guards config and handle until Init
	config *PluginConfig
	used   bool // Init or Load was called: the handle stays
	handle *handle
}

// NewManager makes a manager; nothing is started before Init. Its plugins get the host's HostAPI and policy. Close it. Errors:
// [ErrInvalidConfig] with every problem of the config, [ErrInvalidState] if the host is closed.
func NewManager(h *Host, config *PluginConfig) (*Manager, error) {
	if config == nil {
		config = new(PluginConfig)
	}
	made, err := newManagerHandle(h, config)
	if err != nil {
		return nil, err
	}
	return &Manager{host: h, config: config, handle: made}, nil
}

func newManagerHandle(h *Host, config *PluginConfig) (*handle, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, &Error{Status: StatusInvalidConfig, Message: "The manager's config cannot be written as JSON: " + err.Error()}
	}
	if !h.handle.acquire() {
		return nil, &Error{Status: StatusInvalidState, Message: "The Host is closed; make a new one."}
	}
	defer h.handle.release()
	f, err := takeFrame(context.Background())
	if err != nil {
		return nil, err
	}
	defer f.giveBack()
	ptr, n := chars(text)
	if status := C.fp_manager_new(h.handle.ptr, ptr, n, f.c); status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	return newHandle(f.c.handle, func(p unsafe.Pointer) { C.fp_manager_free(p) }), nil
}

// Init discovers, loads and starts everything, side by side, with these configs by identity before those of NewManager, and
// then follows the changes. A plugin that fails stays in the List with its cause, and stops no other. Errors: those of a
// source that cannot be used, though everything else is started and the manager runs; the end of ctx, likewise.
func (m *Manager) Init(ctx context.Context, configs map[string]json.RawMessage) error {
	if err := m.configure(configs); err != nil {
		return err
	}
	return m.with(ctx, func(f *frame, manager unsafe.Pointer) error { return f.check(C.fp_manager_start(manager, f.c)) })
}

// configure makes the library's manager anew with more configs: it takes them only when it is made.
func (m *Manager) configure(configs map[string]json.RawMessage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := m.used
	m.used = true
	if len(configs) == 0 || m.handle.closed() {
		return nil
	}
	if used {
		return &Error{Status: StatusInvalidState, Message: "Init takes configs only before anything was loaded; give them to Load, or to NewManager."}
	}
	made, err := newManagerHandle(m.host, m.config.withConfigs(configs))
	if err != nil {
		return err
	}
	m.handle.close()
	m.handle = made
	return nil
}

// Load loads and starts the plugin in a folder, whose name is its identity; config nil: that of NewManager or Init. If it
// fails, nothing of it stays.
func (m *Manager) Load(ctx context.Context, folder string, config json.RawMessage) (identity string, err error) {
	whole, err := filepath.Abs(folder)
	if err != nil {
		return "", &Error{Status: StatusInvalidArgument, Message: "The folder cannot be found: " + err.Error()}
	}
	m.mu.Lock()
	m.used = true
	m.mu.Unlock()
	err = m.with(ctx, func(f *frame, manager unsafe.Pointer) error {
		ptr, n := charsOf(whole)
		text, textLen := chars(config)
		return f.check(C.fp_manager_load(manager, ptr, n, text, textLen, f.c))
	})
	if err != nil {
		return "", err
	}
	return filepath.Base(whole), nil
}

// ReloadPlugin reloads a plugin without refusing a call; nm nil: as on disk; config nil: as before. If it fails, what ran goes
// on, and the List shows why.
func (m *Manager) ReloadPlugin(ctx context.Context, identity string, nm *Manifest, config json.RawMessage) error {
	return m.with(ctx, func(f *frame, manager unsafe.Pointer) error {
		var manifest unsafe.Pointer
		if nm != nil {
			made, err := f.ofManifest(nm)
			if err != nil {
				return err
			}
			manifest = made
			defer C.fp_manifest_free(manifest)
		}
		id, idLen := charsOf(identity)
		text, textLen := chars(config)
		return f.check(C.fp_manager_reload(manager, id, idLen, manifest, text, textLen, f.c))
	})
}

// UnloadPlugin refuses new calls of a plugin, gives those in flight until ctx's deadline (the config's DrainTimeout if it has
// none), and forgets the plugin. [ErrTimeout]: a method of the HostAPI has not returned; unload it again to wait for that.
func (m *Manager) UnloadPlugin(ctx context.Context, identity string) error {
	return m.with(ctx, func(f *frame, manager unsafe.Pointer) error {
		id, idLen := charsOf(identity)
		return f.check(C.fp_manager_unload(manager, id, idLen, f.c))
	})
}

// List returns all plugins, in the order of their identities; none once the manager is closed.
func (m *Manager) List() []Instance {
	var list []Instance
	_ = m.with(context.Background(), func(f *frame, manager unsafe.Pointer) error {
		err := f.check(C.fp_manager_list(manager, f.c))
		if err == nil {
			list, err = parseList(f.take())
		}
		return err
	})
	return list
}

// Get returns a plugin, to be called: it stays the manager's, and Close of the Runner lets go of the Runner alone. False, if there
// is none of the identity, or it could not be loaded.
func (m *Manager) Get(identity string) (*Runner, bool) {
	r := m.host.NewRunner(identity)
	err := m.with(context.Background(), func(f *frame, manager unsafe.Pointer) error {
		id, idLen := charsOf(identity)
		if err := f.check(C.fp_manager_get(manager, id, idLen, f.c)); err != nil {
			return err
		}
		p := newHandle(f.c.handle, func(p unsafe.Pointer) { C.fp_plugin_free(p) })
		r.plugin.Store(p)
		runtime.AddCleanup(r, (*handle).close, p)
		return nil
	})
	return r, err == nil
}

// Metrics writes figures of all plugins in Prometheus' text format.
func (m *Manager) Metrics(w io.Writer) error {
	var text []byte
	err := m.with(context.Background(), func(f *frame, manager unsafe.Pointer) error {
		err := f.check(C.fp_manager_metrics(manager, f.c))
		if err == nil {
			text = f.take()
		}
		return err
	})
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// Close ends what is under way and stops all plugins, all at once, with ctx's deadline as the drain time (the config's
// DrainTimeout if it has none; none at all if ctx has ended). [ErrTimeout]: a method of the HostAPI has not returned; Close may be
// called again. Called again after that it does nothing. From inside a method of the HostAPI it is [ErrInvalidState].
func (m *Manager) Close(ctx context.Context) error {
	err := m.with(context.WithoutCancel(ctx), func(f *frame, manager unsafe.Pointer) error {
		if at, ok := ctx.Deadline(); ok {
			f.c.options.timeout_ns = C.uint64_t(max(time.Until(at), 1))
		}
		if ctx.Err() != nil {
			f.c.options.timeout_ns = 1
		}
		return f.check(C.fp_manager_stop(manager, f.c))
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handle.closed() {
		return nil
	}
	if err == nil {
		m.handle.close()
	}
	return err
}

// with runs one call of the library on the manager.
func (m *Manager) with(ctx context.Context, call func(*frame, unsafe.Pointer) error) error {
	m.mu.Lock()
	h := m.handle
	m.mu.Unlock()
	if !h.acquire() {
		return &Error{Status: StatusInvalidState, Message: "The Manager is closed; make a new one."}
	}
	defer h.release()
	f, err := takeFrame(ctx)
	if err != nil {
		return err
	}
	defer f.giveBack()
	err = call(f, h.ptr)
	runtime.KeepAlive(m) // and with it the Host, whose end would end the call
	var e *Error
	if errors.As(err, &e) {
		return f.failed(ctx, e)
	}
	return err
}
