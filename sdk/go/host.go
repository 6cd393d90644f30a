package sdk

import "context"

// Level is how much a log record matters.
type Level int32

// The levels, with the numbers of the WebAssembly interface.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
)

// String is the level's name in the gRPC protocol.
func (l Level) String() string {
	switch {
	case l <= LevelDebug:
		return "debug"
	case l == LevelInfo:
		return "info"
	case l == LevelWarn:
		return "warn"
	default:
		return "error"
	}
}

// HostAPI is what a plugin can ask of its host. It can be used from any goroutine.
//
// Use the ctx of the call on whose behalf the host is asked, or one derived from it: its deadline is passed on, and the host learns which
// call it was. A call with a ctx that has no deadline is given 30 seconds. A call that the host refuses or that fails there is a
// *HostError.
type HostAPI interface {
	// GetConfig returns one key of the plugin's config: a string as it is, any other value as JSON, and "" if there is no such key.
	GetConfig(ctx context.Context, key string) (string, error)
	// Log hands a record to the host's log. It never fails: a record that cannot be delivered is lost.
	Log(ctx context.Context, level Level, message string, fields map[string]string)
	// KVGet returns the value of a key of the plugin's own name space, and whether there is one. An empty value that is there is not nil.
	KVGet(ctx context.Context, key string) (value []byte, found bool, err error)
	// KVSet stores a value.
	KVSet(ctx context.Context, key string, value []byte) error
	// KVDelete removes a key. A key that is not there is no error.
	KVDelete(ctx context.Context, key string) error
	// HTTPRequest makes a request to a host that the plugin may reach. A status such as 404 is not an error.
	HTTPRequest(ctx context.Context, request *HTTPRequest) (*HTTPResponse, error)
	// EmitEvent tells the host that something happened. Over gRPC the protocol has room for the source, the type and the data alone; the
	// entity's id travels in the data, as entity_id, and the rest stays behind.
	EmitEvent(ctx context.Context, event DataEvent) error
}

type hostKey struct{}

// Host returns the host to ask in ctx: the one that WithHost put there, else the host that runs this plugin. It is never nil.
func Host(ctx context.Context) HostAPI {
	if host, ok := ctx.Value(hostKey{}).(HostAPI); ok {
		return host
	}
	return processHost()
}

// WithHost returns a ctx in which Host returns this host: for tests of a plugin.
func WithHost(ctx context.Context, host HostAPI) context.Context {
	return context.WithValue(ctx, hostKey{}, host)
}

func methodOf(request *HTTPRequest) string {
	if request.Method == "" {
		return "GET"
	}
	return request.Method
}
