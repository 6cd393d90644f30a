// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// NewRunner makes the Runner of one plugin in the host h. identity is who the plugin is: its part of the KV store goes by it, and so does the
// exchange at a reload (see the package's notes). baseDir is the folder against which relative paths of the manifest are resolved; empty is the working
// directory, as in flowbot. What flowbot's Manifest has no field for, grpc.permissions for instance, is read by Load from the plugin.yaml in baseDir or beside
// the artifact, if that names the same artifact; what it has a field for is as the Manifest says, empty or not. api answers what the plugin asks (for
// HTTP see the package's notes); where it is nil, h's own HostAPI or the library's defaults do.
//
// The plugin is granted what its manifest asks, as flowbot grants it: the policy "trusted" stands before opts.
// flowplug.WithRunnerPolicy(nil) among opts has h's policy decide instead.
//
// Nothing is loaded yet. Errors: [flowplug.ErrInvalidArgument] for a host, identity or manifest that is missing,
// [flowplug.ErrInvalidManifest] for one without the section of its runtime.
func NewRunner(h *flowplug.Host, identity, baseDir string, m *plugin.Manifest, api plugin.HostAPI, opts ...flowplug.RunnerOption) (plugin.Runner, error) {
	switch {
	case h == nil:
		return nil, refused(flowplug.StatusInvalidArgument, identity, "There is no Host: make one with flowplug.NewHost before plugins are loaded.")
	case identity == "":
		return nil, refused(flowplug.StatusInvalidArgument, identity, "A plugin needs an identity.")
	case m == nil:
		return nil, refused(flowplug.StatusInvalidArgument, identity, "There is no manifest.")
	case m.Runtime == plugin.RuntimeGRPC && m.GRPC == nil:
		return nil, refused(flowplug.StatusInvalidManifest, identity, "grpc config required: runtime is grpc.")
	case m.Runtime == plugin.RuntimeWasm && m.Wasm == nil:
		return nil, refused(flowplug.StatusInvalidManifest, identity, "wasm config required: runtime is wasm.")
	}
	all := []flowplug.RunnerOption{flowplug.WithRunnerPolicy("trusted")}
	if api != nil {
		all = append(all, flowplug.WithRunnerHostAPI(services{api}))
	}
	core := h.NewRunner(identity, append(all, opts...)...)
	return &runner{place: place{weak.Make(h), identity}, core: core, baseDir: baseDir, api: api}, nil
}

func refused(status flowplug.Status, identity, message string) error {
	return translated(&flowplug.Error{Status: status, Plugin: identity, Message: message})
}

// runner is flowbot's Runner over the library's.
type runner struct {
	place   place
	core    *flowplug.Runner
	baseDir string
	api     plugin.HostAPI

	mu      sync.Mutex            // one start at a time
	failed  atomic.Pointer[error] // why it did not start
	stopped atomic.Bool
	line    atomic.Pointer[lineage] // since it was started
}

var _ plugin.Runner = (*runner)(nil)

// Load loads the plugin: it finds and checks the artifact, and compiles the module or starts the process. The name in the PluginInfo is that
// of m, which flowbot's local source has made the folder's.
func (r *runner) Load(ctx context.Context, m *plugin.Manifest) (*plugin.PluginInfo, error) {
	manifest, err := r.manifestOf(ctx, m)
	if err != nil {
		return nil, translated(err)
	}
	if _, err := r.core.Load(ctx, manifest); err != nil {
		return nil, translated(err)
	}
	return &plugin.PluginInfo{Name: m.Name, Version: m.Version, Provides: m.Provides, ConfigSchema: m.ConfigSchema}, nil
}

// Start starts the plugin with config; on an error the plugin is ended. Another Start changes nothing in either case, says so in the log and
// returns nil: it is flowbot's module framework that makes it, with a config of its own, and an error would stop the server.
func (r *runner) Start(ctx context.Context, config json.RawMessage) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch failed := r.failed.Load(); {
	case failed != nil:
		r.note(ctx, slog.LevelError, "the plugin stays stopped, because it could not be started with its own config", *failed)
		return nil
	case r.line.Load() != nil && !r.stopped.Load():
		r.note(ctx, slog.LevelInfo, "the plugin is started already, and keeps the config that it has", nil)
		return nil
	}
	if err := r.core.Start(ctx, config); err != nil {
		err = translated(err)
		if !errors.Is(err, flowplug.ErrInvalidState) && !r.stopped.Load() {
			// flowbot lets go of a runner that does not start, without stopping it.
			r.failed.Store(&err)
			_ = r.core.Close()
		}
		return err
	}
	if !r.lead() {
		return refused(flowplug.StatusInvalidState, r.place.identity, "The plugin was stopped while it started.")
	}
	return nil
}

func (r *runner) note(ctx context.Context, level slog.Level, what string, cause error) {
	fields := map[string]string{"plugin": r.place.identity}
	if cause != nil {
		fields["error"] = cause.Error()
	}
	if r.api != nil {
		r.api.Log(ctx, strings.ToLower(level.String()), what, fields)
		return
	}
	attrs := make([]slog.Attr, 0, len(fields))
	for name, value := range fields {
		attrs = append(attrs, slog.String(name, value))
	}
	slog.LogAttrs(ctx, level, what, attrs...)
}

// Stop refuses new calls of this plugin, gives those in flight, and a start, until ctx's deadline (30 s if it has none) and ends it.
// After a reload the later calls go to the plugin that took its place. Again it waits for that end, and does nothing.
func (r *runner) Stop(ctx context.Context) error {
	again := r.stopped.Swap(true)
	r.leave()
	err := r.core.Stop(ctx)
	_ = r.core.Close()
	if again || r.failed.Load() != nil {
		return nil // it had ended before, or another Stop says how it ended
	}
	return translated(err)
}

// Call calls a function of the plugin: of the one that took its place, once this one is stopped. A plugin that could not be started answers every
// call with that error, but for bootstrap, which has nothing to do then and must not stop the server.
func (r *runner) Call(ctx context.Context, function string, params json.RawMessage) (json.RawMessage, error) {
	if failed := r.failed.Load(); failed != nil && !r.stopped.Load() {
		if function == "bootstrap" {
			return json.RawMessage("null"), nil
		}
		return nil, *failed
	}
	params = withBothContexts(function, params)
	for {
		to := r.now()
		result, err := to.core.Call(ctx, function, params)
		// It was stopped between the two lines above: the plugin has not seen the call.
		if errors.Is(err, flowplug.ErrInvalidState) && r.now() != to {
			continue
		}
		return result, translated(err)
	}
}

// now is who has the plugin's identity now.
func (r *runner) now() *runner {
	if r.stopped.Load() {
		if line := r.line.Load(); line != nil {
			if leader := line.leader.Load(); leader != nil {
				return leader
			}
		}
	}
	return r
}

// Health asks how the plugin is. It never fails: what is wrong is LastError.
func (r *runner) Health(ctx context.Context) (*plugin.HealthStatus, error) {
	if failed := r.failed.Load(); failed != nil {
		return &plugin.HealthStatus{LastError: (*failed).Error()}, nil
	}
	health, err := r.now().core.Health(ctx)
	if err != nil {
		return &plugin.HealthStatus{LastError: err.Error()}, nil
	}
	return &plugin.HealthStatus{Ready: health.Ready, LastError: health.LastError, Uptime: health.Uptime}, nil
}
