//go:build wasip1

package sdk

import (
	"context"
	"encoding/json"
)

// What the host calls. alloc and free are in memory_wasm.go.

//go:wasmexport init
func wasmInit(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, config json.RawMessage) (json.RawMessage, error) {
		return null, p.init(ctx, config)
	})
}

//go:wasmexport is_ready
func wasmIsReady() int32 {
	plugin, err := current()
	if err == nil && plugin.isReady(context.Background()) {
		return 1
	}
	return 0
}

//go:wasmexport bootstrap
func wasmBootstrap() uint64 {
	return call(0, 0, func(p *plugin, ctx context.Context, _ none) (json.RawMessage, error) { return p.bootstrap(ctx) })
}

//go:wasmexport rules
func wasmRules() uint64 {
	return call(0, 0, func(p *plugin, ctx context.Context, _ none) (json.RawMessage, error) { return p.rules(ctx) })
}

//go:wasmexport help
func wasmHelp() uint64 {
	return call(0, 0, func(p *plugin, ctx context.Context, _ none) (json.RawMessage, error) { return p.help(ctx) })
}

type commandParams struct {
	Context json.RawMessage `json:"context"`
	Content json.RawMessage `json:"content"`
}

//go:wasmexport command
func wasmCommand(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, params commandParams) (json.RawMessage, error) {
		return p.command(ctx, params.Context, params.Content)
	})
}

type formParams struct {
	Context json.RawMessage            `json:"context"`
	Values  map[string]json.RawMessage `json:"values"`
}

//go:wasmexport form
func wasmForm(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, params formParams) (json.RawMessage, error) {
		values := make(map[string]string, len(params.Values))
		for name := range params.Values {
			values[name] = firstText(params.Values, name)
		}
		return p.form(ctx, params.Context, values)
	})
}

type abilityParams struct {
	Operation string          `json:"operation"`
	Params    json.RawMessage `json:"params"`
}

//go:wasmexport ability_call
func wasmAbilityCall(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, params abilityParams) (json.RawMessage, error) {
		return p.invoke(ctx, params.Operation, params.Params)
	})
}

type webhookParams struct {
	Payload []byte `json:"payload"`
}

//go:wasmexport webhook_convert
func wasmWebhookConvert(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, params webhookParams) (json.RawMessage, error) {
		return p.convertWebhook(ctx, params.Payload)
	})
}

type oauthParams struct {
	State string `json:"state"`
	Code  string `json:"code"`
}

//go:wasmexport oauth_authorize
func wasmOAuthAuthorize(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, params oauthParams) (json.RawMessage, error) {
		return p.oauthAuthorize(ctx, params.State)
	})
}

//go:wasmexport oauth_callback
func wasmOAuthCallback(address, size uint32) uint64 {
	return call(address, size, func(p *plugin, ctx context.Context, params oauthParams) (json.RawMessage, error) {
		return p.oauthCallback(ctx, params.State, params.Code)
	})
}
