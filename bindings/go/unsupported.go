//go:build !(cgo && linux)

package flowplug

import (
	"context"
	"encoding/json"
	"io"
)

var errNoLibrary = &Error{
	Status:  StatusUnsupported,
	Message: "This build has no libflowplug: build on Linux with cgo (CGO_ENABLED=1).",
}

func libManifest([]byte, string, string, bool) ([]byte, []string, error) {
	return nil, nil, errNoLibrary
}
func libValidateConfig([]byte, []byte) error       { return errNoLibrary }
func libFillConfig([]byte, []byte) ([]byte, error) { return nil, errNoLibrary }
func libHTTPCheck(uint64, string) error            { return errNoLibrary }

// ManifestSchema returns nil in this build.
func ManifestSchema() json.RawMessage { return nil }

// PolicySchema returns nil in this build.
func PolicySchema() json.RawMessage { return nil }

// Version is that of the library that the program is linked with; empty without one.
func Version() string { return "" }

// Host cannot be made in this build: see [NewHost].
type Host struct{}

// NewHost returns [ErrUnsupported] in this build.
func NewHost(...HostOption) (*Host, error) { return nil, errNoLibrary }

// Close returns nil.
func (h *Host) Close() error { return nil }

// NewRunner makes a runner whose methods return [ErrUnsupported].
func (h *Host) NewRunner(identity string, _ ...RunnerOption) *Runner {
	return &Runner{identity: identity}
}

// Admit returns [ErrUnsupported].
func (h *Host) Admit(string, *Manifest, ...RunnerOption) (*Admission, error) {
	return nil, errNoLibrary
}

// Metrics returns [ErrUnsupported].
func (h *Host) Metrics(io.Writer) error { return errNoLibrary }

// Runner can do nothing in this build: its methods return [ErrUnsupported].
type Runner struct{ identity string }

// Load returns [ErrUnsupported].
func (r *Runner) Load(context.Context, *Manifest) (*PluginInfo, error) { return nil, errNoLibrary }

// Start returns [ErrUnsupported].
func (r *Runner) Start(context.Context, json.RawMessage) error { return errNoLibrary }

// Stop returns [ErrUnsupported].
func (r *Runner) Stop(context.Context) error { return errNoLibrary }

// Reload returns [ErrUnsupported].
func (r *Runner) Reload(context.Context, *Manifest, json.RawMessage) error { return errNoLibrary }

// Call returns [ErrUnsupported].
func (r *Runner) Call(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return nil, errNoLibrary
}

// Health returns [ErrUnsupported].
func (r *Runner) Health(context.Context) (*HealthStatus, error) { return nil, errNoLibrary }

// Function returns [ErrUnsupported].
func (r *Runner) Function(string, ...FunctionOption) (*Function, error) { return nil, errNoLibrary }

// State returns StateError.
func (r *Runner) State() PluginState { return StateError }

// Identity returns the identity given to NewRunner.
func (r *Runner) Identity() string { return r.identity }

// Close returns nil.
func (r *Runner) Close() error { return nil }

// Function cannot be made in this build.
type Function struct{}

// Call returns [ErrUnsupported].
func (fn *Function) Call(context.Context, json.RawMessage) (json.RawMessage, error) {
	return nil, errNoLibrary
}

// Close returns nil.
func (fn *Function) Close() error { return nil }

// Manager cannot be made in this build: see [NewManager].
type Manager struct{}

// NewManager returns [ErrUnsupported] in this build.
func NewManager(*Host, *PluginConfig) (*Manager, error) { return nil, errNoLibrary }

// Init returns [ErrUnsupported].
func (m *Manager) Init(context.Context, map[string]json.RawMessage) error { return errNoLibrary }

// Load returns [ErrUnsupported].
func (m *Manager) Load(context.Context, string, json.RawMessage) (string, error) {
	return "", errNoLibrary
}

// ReloadPlugin returns [ErrUnsupported].
func (m *Manager) ReloadPlugin(context.Context, string, *Manifest, json.RawMessage) error {
	return errNoLibrary
}

// UnloadPlugin returns [ErrUnsupported].
func (m *Manager) UnloadPlugin(context.Context, string) error { return errNoLibrary }

// List returns nil.
func (m *Manager) List() []Instance { return nil }

// Get returns nil and false.
func (m *Manager) Get(string) (*Runner, bool) { return nil, false }

// Metrics returns [ErrUnsupported].
func (m *Manager) Metrics(io.Writer) error { return errNoLibrary }

// Close returns nil.
func (m *Manager) Close(context.Context) error { return nil }
