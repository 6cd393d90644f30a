//go:build wasip1

package sdk

import "context"

// What the host calls. alloc and free are in memory_wasm.go.

//go:wasmexport is_ready
func wasmIsReady() int32 {
	plugin, err := current()
	if err == nil && plugin.isReady(context.Background()) {
		return 1
	}
	return 0
}

//go:wasmexport init
func wasmInit(address, size uint32) uint64 { return call("init", address, size) }

//go:wasmexport bootstrap
func wasmBootstrap() uint64 { return call("bootstrap", 0, 0) }

//go:wasmexport rules
func wasmRules() uint64 { return call("rules", 0, 0) }

//go:wasmexport help
func wasmHelp() uint64 { return call("help", 0, 0) }

//go:wasmexport command
func wasmCommand(address, size uint32) uint64 { return call("command", address, size) }

//go:wasmexport form
func wasmForm(address, size uint32) uint64 { return call("form", address, size) }

//go:wasmexport input
func wasmInput(address, size uint32) uint64 { return call("input", address, size) }

//go:wasmexport ability_call
func wasmAbilityCall(address, size uint32) uint64 { return call("ability_call", address, size) }

//go:wasmexport webhook_convert
func wasmWebhookConvert(address, size uint32) uint64 { return call("webhook_convert", address, size) }

//go:wasmexport oauth_authorize
func wasmOAuthAuthorize(address, size uint32) uint64 { return call("oauth_authorize", address, size) }

//go:wasmexport oauth_callback
func wasmOAuthCallback(address, size uint32) uint64 { return call("oauth_callback", address, size) }
