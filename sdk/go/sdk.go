// Package sdk is what a plugin is written against in Go. One source makes both kinds of plugin:
//
//	go build -trimpath -o my-plugin .                                                # a process that speaks gRPC
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -o plugin.wasm .  # a WebAssembly module
//
// A plugin is a Module and a main that serves it:
//
//	type greeter struct{ sdk.ModuleBase }
//
//	func (greeter) Command(ctx context.Context, who sdk.Context, content json.RawMessage) (any, error) {
//		return sdk.TextMsg{Text: "Hello from " + who.Platform}, nil
//	}
//
//	func main() { sdk.Serve(greeter{}) }
//
// What more a plugin can do it says by implementing Ability or Provider (or one of its parts, WebhookConverter and OAuth) beside Module; the
// manifest declares the same, and a host calls only what the manifest declares. What a plugin can ask of its host is behind Host. Package
// plugintest runs a plugin in a Go test.
//
// # What differs between the two
//
// A process keeps its memory for its whole life and is called from many goroutines at once. A WebAssembly module is instantiated several
// times, each instance with its own memory, Init included, and has one call at a time; an instance can be thrown away after any call. State
// that matters belongs into the host's key-value store, and a plugin that keeps to this behaves the same in both.
//
// Under gRPC the ctx of a call ends when the host's deadline for it does. Under WebAssembly it never ends: the host stops the instance.
//
// # Errors and panics
//
// An error that a plugin returns reaches the caller as the plugin's own text. A panic in the goroutine of the call becomes such an error
// too, with the stack in the host's log; a panic in a goroutine that the plugin started ends the process or the instance, as in any Go
// program.
package sdk

import (
	"context"
	"encoding/json"
)

// Module is a plugin. Embed ModuleBase and write only what the plugin has.
//
// Under gRPC the methods are called from many goroutines at once, Init aside, which comes first and alone.
// Results typed any are encoded as JSON; a json.RawMessage is handed on as it is.
type Module interface {
	// Init receives the plugin's config, checked against the manifest's config_schema; null if there is none. An error keeps the plugin
	// from starting.
	Init(ctx context.Context, config json.RawMessage) error
	// Bootstrap does once what has to be done after Init and before traffic.
	Bootstrap(ctx context.Context) error
	// Command answers what a person said. The answer is a message, usually one of the ...Msg types. The content is JSON.
	Command(ctx context.Context, who Context, content json.RawMessage) (any, error)
	// Form answers a form that a person sent back, as Command does.
	Form(ctx context.Context, who Context, values map[string]string) (any, error)
	// Rules says what the plugin listens to; its shape is the host's.
	Rules(ctx context.Context) (any, error)
	// Help says in words what the plugin can do: lines by topic.
	Help(ctx context.Context) (map[string][]string, error)
	// IsReady says whether the plugin can take calls now. Hosts ask it often.
	IsReady(ctx context.Context) bool
}

// Ability is implemented by a Module whose manifest declares provides.abilities.
type Ability interface {
	// Invoke runs one of the declared operations. The answer is usually an InvokeResult. The params are a JSON object, or null.
	Invoke(ctx context.Context, operation string, params json.RawMessage) (any, error)
}

// WebhookConverter is implemented by a Module whose manifest declares provides.provider.
type WebhookConverter interface {
	// ConvertWebhook makes events of a webhook's body.
	ConvertWebhook(ctx context.Context, payload []byte) ([]DataEvent, error)
}

// OAuth is implemented by a Module whose manifest declares provides.provider with oauth: true.
type OAuth interface {
	// OAuthAuthorize returns the URL to send a person to. The provider hands the state back at the end.
	OAuthAuthorize(ctx context.Context, state string) (url string, err error)
	// OAuthCallback exchanges the code for a token, which is encoded as a JSON object.
	OAuthCallback(ctx context.Context, state, code string) (token any, err error)
}

// Provider is a plugin that stands for an outside service, webhooks and OAuth both. A plugin that has one of them alone implements that one.
type Provider interface {
	WebhookConverter
	OAuth
}

// Listener is implemented by a Module that wants to hear what is no command. Only WebAssembly has it: gRPC hosts have no call for it.
type Listener interface {
	// Input answers what a person sent, as Module's Command does. The head is the host's, and may be nil.
	Input(ctx context.Context, who Context, head map[string]any, content json.RawMessage) (any, error)
}

// ModuleBase is the Module that has nothing: it starts, is ready, and answers a command or a form with an error.
type ModuleBase struct{}

var _ Module = ModuleBase{}

// Init accepts any config.
func (ModuleBase) Init(context.Context, json.RawMessage) error { return nil }

// Bootstrap does nothing.
func (ModuleBase) Bootstrap(context.Context) error { return nil }

// Command fails with ErrUnsupported.
func (ModuleBase) Command(context.Context, Context, json.RawMessage) (any, error) {
	return nil, unsupported("commands")
}

// Form fails with ErrUnsupported.
func (ModuleBase) Form(context.Context, Context, map[string]string) (any, error) {
	return nil, unsupported("forms")
}

// Rules are none.
func (ModuleBase) Rules(context.Context) (any, error) { return []any{}, nil }

// Help has no topics.
func (ModuleBase) Help(context.Context) (map[string][]string, error) {
	return map[string][]string{}, nil
}

// IsReady is true.
func (ModuleBase) IsReady(context.Context) bool { return true }
