package flowplug

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"
)

// HostAPI is what plugins may ask of the program. Methods are called from many goroutines at
// once. ctx derives from the context of the call that the request belongs to, where that is known
// (always for wasm; for gRPC if the plugin's SDK says so), and ends with it, with the request's
// deadline, and when the method returns. [PluginFromContext] says who asks.
//
// Embed [UnimplementedHostAPI] and override what the program answers itself. An error reaches the
// plugin as its text; a panic fails the plugin's request and nothing else.
type HostAPI interface {
	// GetConfig returns a value of the plugin's config. [ErrNotFound]: missing.
	GetConfig(ctx context.Context, key string) (string, error)
	// Log takes a record; level is "debug", "info", "warn" or "error". The library's own records
	// come the same way, without a plugin, if no logger is set.
	Log(ctx context.Context, level, msg string, fields map[string]string)
	// KVGet returns the value of key, which comes as plugin:<identity>:<key>. [ErrNotFound], or nil without
	// an error: missing; []byte{}: an empty value.
	KVGet(ctx context.Context, key string) ([]byte, error)
	// KVSet stores value, which belongs to the method, under key.
	KVSet(ctx context.Context, key string, value []byte) error
	// KVDelete removes key; a missing one is removed already.
	KVDelete(ctx context.Context, key string) error
	// HTTPRequest performs a request whose URL has passed the plugin's allowlist. Use [HTTPClient], which
	// asks again at every redirect.
	HTTPRequest(ctx context.Context, r *HostHTTPRequest) (*HostHTTPResponse, error)
	// EmitEvent takes an event of the plugin.
	EmitEvent(ctx context.Context, e DataEvent) error
}

// HostHTTPRequest is an HTTP request that a plugin asks for.
type HostHTTPRequest struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

// HostHTTPResponse is what came back.
type HostHTTPResponse struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

// DataEvent is an event that a plugin emits.
type DataEvent struct {
	EventID        string          `json:"event_id"`
	EventType      string          `json:"event_type"`
	Source         string          `json:"source"`
	Capability     string          `json:"capability"`
	Operation      string          `json:"operation"`
	App            string          `json:"app"`
	EntityID       string          `json:"entity_id"`
	CreatedAt      time.Time       `json:"created_at"`
	IdempotencyKey string          `json:"idempotency_key"`
	UID            string          `json:"uid"`
	Topic          string          `json:"topic"`
	Data           json.RawMessage `json:"data,omitempty"` // a JSON object
	Tags           json.RawMessage `json:"tags,omitempty"` // a JSON object, or nil
}

// UnmarshalJSON reads an event leniently where plugins are: an empty created_at is the zero time.
func (e *DataEvent) UnmarshalJSON(data []byte) error {
	type event DataEvent
	read := struct {
		*event
		CreatedAt string `json:"created_at"`
	}{event: (*event)(e)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	if isNull(e.Data) {
		e.Data = nil
	}
	if isNull(e.Tags) {
		e.Tags = nil
	}
	e.CreatedAt = time.Time{}
	if read.CreatedAt == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, read.CreatedAt)
	e.CreatedAt = at
	return err
}

// UnimplementedHostAPI has the library's embedded default for everything: config from the plugin's
// own, a KV store in memory or in the file of [WithKVPath], an HTTP client, events of the library, and the logger of the host or
// standard error. Embed it in a HostAPI.
type UnimplementedHostAPI struct{}

var _ HostAPI = UnimplementedHostAPI{}

// GetConfig answers from the plugin's own config.
func (UnimplementedHostAPI) GetConfig(context.Context, string) (string, error) {
	return "", ErrUseDefault
}

// Log writes to the logger of the host, or to standard error if it has none.
func (UnimplementedHostAPI) Log(ctx context.Context, level, msg string, fields map[string]string) {
	logTo(loggerFrom(ctx), ctx, level, msg, fields)
}

// KVGet reads from the embedded store.
func (UnimplementedHostAPI) KVGet(context.Context, string) ([]byte, error) { return nil, ErrUseDefault }

// KVSet writes to the embedded store.
func (UnimplementedHostAPI) KVSet(context.Context, string, []byte) error { return ErrUseDefault }

// KVDelete removes from the embedded store.
func (UnimplementedHostAPI) KVDelete(context.Context, string) error { return ErrUseDefault }

// HTTPRequest makes the request with the embedded HTTP client: straight to the server, the allowlist asked again at each redirect,
// and no address reached that is not public unless the policy's http_private lists it. [HTTPClient] helps to do it in Go.
func (UnimplementedHostAPI) HTTPRequest(context.Context, *HostHTTPRequest) (*HostHTTPResponse, error) {
	return nil, ErrUseDefault
}

// EmitEvent makes it an event of the library, of the type "emitted", with what the plugin sent under "data" in Raw: see [WithEvents].
func (UnimplementedHostAPI) EmitEvent(context.Context, DataEvent) error { return ErrUseDefault }

// hostCall is one request of a plugin, in the context that a HostAPI's method gets.
type hostCall struct {
	identity, function string
	target             *target
	// request is the library's number of it; 0 for a log record, which nobody waits for.
	request uint64
	// open ends when the method returns: then the number means nothing any more.
	open atomic.Bool
}

type hostCallKey struct{}

func hostCallFrom(ctx context.Context) *hostCall {
	call, _ := ctx.Value(hostCallKey{}).(*hostCall)
	return call
}

// PluginFromContext returns who asks, in a method of a HostAPI: the plugin's identity, and the function it
// was called with where that is known. Both are empty for a record of the library, and outside of such a method.
func PluginFromContext(ctx context.Context) (identity, function string) {
	if call := hostCallFrom(ctx); call != nil {
		return call.identity, call.function
	}
	return "", ""
}
