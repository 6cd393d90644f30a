package flowplug

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"time"
)

// HostOption sets up a Host.
type HostOption func(*hostOptions)

type hostOptions struct {
	api    HostAPI
	logger *slog.Logger
	events func(Event)
	policy any
	config hostConfig
}

// hostConfig is the JSON that the library takes.
type hostConfig struct {
	Policy    json.RawMessage `json:"policy,omitempty"`
	CacheDir  string          `json:"cache_dir,omitempty"`
	KVPath    string          `json:"kv_path,omitempty"`
	Callbacks string          `json:"callbacks,omitempty"`
	HTTP      *httpConfig     `json:"http,omitempty"`
}

type httpConfig struct {
	CAFile string `json:"ca_file,omitempty"`
}

// WithHostAPI answers what plugins ask. Without it the embedded defaults do.
func WithHostAPI(api HostAPI) HostOption { return func(o *hostOptions) { o.api = api } }

// WithPolicy says what plugins are granted: "strict" (the default), "trusted", or a value that marshals
// to the policy's JSON object, a map or a json.RawMessage for instance: docs/manifest.md has its keys, PolicySchema
// its schema, and an ErrPermissionDenied the line that would grant what was refused.
func WithPolicy(policy any) HostOption { return func(o *hostOptions) { o.policy = policy } }

// WithLogger has the library's own records go to logger, and those of plugins unless a HostAPI's Log takes them.
func WithLogger(logger *slog.Logger) HostOption { return func(o *hostOptions) { o.logger = logger } }

// WithCacheDir keeps compiled modules in dir, so that they load at once the next time. Nobody else may
// write to it: what lies there is run.
func WithCacheDir(dir string) HostOption { return func(o *hostOptions) { o.config.CacheDir = dir } }

// WithKVPath keeps what plugins store in this file, made if it is not there, instead of in memory. What KVSet and KVDelete have
// acknowledged is on the disk. One host has the file until it is closed: a second answers [ErrIO].
func WithKVPath(path string) HostOption { return func(o *hostOptions) { o.config.KVPath = path } }

// WithHTTPCertificates has the embedded HTTP client trust the certificates of this file, in PEM, in place of the system's.
func WithHTTPCertificates(file string) HostOption {
	return func(o *hostOptions) { o.config.HTTP = &httpConfig{CAFile: file} }
}

// WithEvents has f told what happens to plugins. It is called from any thread, several at once, and must
// not block.
func WithEvents(f func(Event)) HostOption { return func(o *hostOptions) { o.events = f } }

// WithDetachedCallbacks has the HostAPI's methods run on threads of the library, so that a call is answered at its
// deadline and its cancel whatever a method does. Without it, a method of a wasm plugin's HostAPI runs on the thread that called
// the plugin: much faster, and while it blocks the caller waits. Records and events come one after the other. At most 256
// methods run at once, 32 of them for one plugin (or as many as it may have instances, if that is more), those that outlive their
// call included; what is more is [ErrBusy] to the plugin.
func WithDetachedCallbacks() HostOption {
	return func(o *hostOptions) { o.config.Callbacks = "detached" }
}

// RunnerOption sets up a Runner.
type RunnerOption func(*runnerOptions)

type runnerOptions struct {
	api    HostAPI
	policy any
}

// WithRunnerHostAPI answers what this plugin asks, in place of the host's HostAPI.
func WithRunnerHostAPI(api HostAPI) RunnerOption { return func(o *runnerOptions) { o.api = api } }

// WithRunnerPolicy says what this plugin is granted, in place of the host's policy: a preset's name, or a value
// that marshals to one entry of the policy's plugins.
func WithRunnerPolicy(policy any) RunnerOption { return func(o *runnerOptions) { o.policy = policy } }

// FunctionOption sets up a Function.
type FunctionOption func(*functionOptions)

type functionOptions struct{ trustJSON bool }

// TrustJSON hands a wasm plugin's result on without checking that it is one JSON value (it is UTF-8 in any
// case). It is faster, and for callers that parse the result, and so check it, anyway.
func TrustJSON() FunctionOption { return func(o *functionOptions) { o.trustJSON = true } }

// Event is something that happened to a plugin.
type Event struct {
	Type            string         `json:"type"` // "loaded", "reloaded", "crashed", ...: docs/events.md has them all
	Time            time.Time      `json:"time"`
	Plugin          string         `json:"plugin"`
	State           PluginState    `json:"state,omitempty"`
	Load            uint64         `json:"load,omitempty"` // which load of a plugin: of two of one identity, the later one's is larger
	Seq             uint64         `json:"seq,omitempty"`  // of two changes within one Load, the later one's is larger
	Cause           string         `json:"cause,omitempty"`
	ProvidesChanged bool           `json:"provides_changed,omitempty"`
	Progress        *EventProgress `json:"progress,omitempty"`
	Audit           *EventAudit    `json:"audit,omitempty"`

	// Raw is the whole as the library said it.
	Raw json.RawMessage `json:"-"`
}

// EventProgress is how far something long has come.
type EventProgress struct {
	Step  string `json:"step"`
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
}

// EventAudit is one wish of a manifest that was granted or refused when it was loaded.
type EventAudit struct {
	What    string `json:"what"`
	Target  string `json:"target"`
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule"`
}

// policyJSON is the policy as the library takes it; empty if there is none.
func policyJSON(policy any) (json.RawMessage, error) {
	if policy == nil {
		return nil, nil
	}
	text, err := json.Marshal(policy)
	if err != nil {
		return nil, &Error{Status: StatusInvalidArgument, Message: "The policy cannot be written as JSON: " + err.Error()}
	}
	return text, nil
}

var stderrLogger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))

// loggerFrom is the logger of the host whose plugin asks.
func loggerFrom(ctx context.Context) *slog.Logger {
	if call := hostCallFrom(ctx); call != nil && call.target != nil && call.target.logger != nil {
		return call.target.logger
	}
	return stderrLogger
}

// logTo writes a record of a plugin, or of the library, to a logger.
func logTo(logger *slog.Logger, ctx context.Context, level, msg string, fields map[string]string) {
	var at slog.Level
	switch level {
	case "debug":
		at = slog.LevelDebug
	case "warn":
		at = slog.LevelWarn
	case "error":
		at = slog.LevelError
	}
	if !logger.Enabled(ctx, at) {
		return
	}
	attrs := make([]slog.Attr, 0, len(fields)+2)
	if identity, function := PluginFromContext(ctx); identity != "" {
		attrs = append(attrs, slog.String("plugin", identity))
		if function != "" {
			attrs = append(attrs, slog.String("function", function))
		}
	}
	for name, value := range fields {
		attrs = append(attrs, slog.String(name, value))
	}
	logger.LogAttrs(ctx, at, msg, attrs...)
}
