package flowplug

import "encoding/json"

// RuntimeKind is where a plugin runs.
type RuntimeKind string

// The two runtimes.
const (
	RuntimeGRPC RuntimeKind = "grpc"
	RuntimeWasm RuntimeKind = "wasm"
)

// Manifest is a parsed plugin.yaml. One that [ParseManifest] or [ReadManifest] returned has its
// defaults filled in, knows its folder and keeps fields that this package does not know; it may
// be changed in Go before it is loaded. A literal is as good: the library checks it when it is loaded.
type Manifest struct {
	Name         string          `json:"name" yaml:"name"` // a label; who a plugin is says the identity given to NewRunner
	Version      string          `json:"version" yaml:"version"`
	Description  string          `json:"description" yaml:"description"`
	Author       string          `json:"author" yaml:"author"`
	Runtime      RuntimeKind     `json:"runtime" yaml:"runtime"`
	Provides     Provides        `json:"provides" yaml:"provides"`
	GRPC         *GRPCConfig     `json:"grpc" yaml:"grpc"`
	Wasm         *WasmConfig     `json:"wasm" yaml:"wasm"`
	ConfigSchema json.RawMessage `json:"config_schema" yaml:"config_schema"` // nil: any config passes

	// raw is the JSON this was read from: what it holds beyond the fields above goes back to the library.
	raw      json.RawMessage
	baseDir  string
	warnings []string
}

// Provides declares what the plugin implements. All of it zero gates nothing.
type Provides struct {
	Module    bool          `json:"module" yaml:"module"`
	Abilities []AbilityDecl `json:"abilities" yaml:"abilities"`
	Provider  *ProviderDecl `json:"provider" yaml:"provider"`
}

// AbilityDecl declares a capability and its operations.
type AbilityDecl struct {
	Capability string   `json:"capability" yaml:"capability"`
	Operations []string `json:"operations" yaml:"operations"`
}

// ProviderDecl declares a provider.
type ProviderDecl struct {
	Name  string `json:"name" yaml:"name"`
	OAuth bool   `json:"oauth" yaml:"oauth"`
}

// GRPCConfig configures a plugin that is a process.
type GRPCConfig struct {
	Binary string   `json:"binary" yaml:"binary"` // relative: against the manifest's folder
	Args   []string `json:"args" yaml:"args"`

	Permissions  *GRPCPermissions  `json:"permissions,omitempty" yaml:"permissions,omitempty"`
	Env          map[string]string `json:"env,omitempty" yaml:"env,omitempty"`                     // beside a minimal environment
	StartTimeout string            `json:"start_timeout,omitempty" yaml:"start_timeout,omitempty"` // default "60s"
	CallTimeout  string            `json:"call_timeout,omitempty" yaml:"call_timeout,omitempty"`   // default "30s"
	Restart      *RestartConfig    `json:"restart,omitempty" yaml:"restart,omitempty"`             // default: on failure, five times in a row
	TLS          string            `json:"tls,omitempty" yaml:"tls,omitempty"`                     // "off" (default) or "required"
	SHA256       string            `json:"sha256,omitempty" yaml:"sha256,omitempty"`               // the binary's digest, in hex
}

// GRPCPermissions bounds what the host does for a gRPC plugin; it does not bound the process itself.
type GRPCPermissions struct {
	HTTP            []HTTPPermission `json:"http,omitempty" yaml:"http,omitempty"`
	HTTPMaxResponse string           `json:"http_max_response,omitempty" yaml:"http_max_response,omitempty"` // default "10MB"
}

// RestartConfig says what is to happen when a process ends unexpectedly.
type RestartConfig struct {
	Policy      string `json:"policy,omitempty" yaml:"policy,omitempty"`             // "on_failure" (default) or "never"
	MaxRestarts int    `json:"max_restarts,omitempty" yaml:"max_restarts,omitempty"` // default 5; see Policy for none
	Backoff     string `json:"backoff,omitempty" yaml:"backoff,omitempty"`           // the first wait, default "200ms"
}

// WasmConfig configures a plugin that is a WebAssembly module.
type WasmConfig struct {
	Module      string           `json:"module" yaml:"module"` // relative: against the manifest's folder
	Permissions *WasmPermissions `json:"permissions" yaml:"permissions"`
	Pool        *WasmPoolConfig  `json:"pool" yaml:"pool"`

	SHA256 string `json:"sha256,omitempty" yaml:"sha256,omitempty"` // the module's digest, in hex
}

// WasmPermissions is what a module asks for; what is not asked for is not there.
type WasmPermissions struct {
	HTTP       []HTTPPermission `json:"http" yaml:"http"`
	Filesystem []FSPermission   `json:"filesystem" yaml:"filesystem"`
	Memory     *MemoryLimit     `json:"memory" yaml:"memory"`
	Execution  *ExecutionLimit  `json:"execution" yaml:"execution"`

	HTTPMaxResponse string `json:"http_max_response,omitempty" yaml:"http_max_response,omitempty"` // default "10MB"
}

// HTTPPermission names a host that requests may go to: "api.example.com", "*.example.org", "localhost:8080".
type HTTPPermission struct {
	Host string `json:"host" yaml:"host"`
}

// FSPermission names a folder that the module sees.
type FSPermission struct {
	Path string `json:"path" yaml:"path"`
	Mode string `json:"mode" yaml:"mode"` // "readwrite" or "read"
}

// MemoryLimit bounds an instance's memory.
type MemoryLimit struct {
	Max string `json:"max" yaml:"max"` // e.g. "64MB"
}

// ExecutionLimit bounds a call.
type ExecutionLimit struct {
	Timeout string `json:"timeout" yaml:"timeout"` // e.g. "30s"; wall clock, host calls included

	Fuel uint64 `json:"fuel,omitempty" yaml:"fuel,omitempty"` // a deterministic bound beside the timeout; 0: none
}

// WasmPoolConfig sizes the pool of instances.
type WasmPoolConfig struct {
	MaxInstances int    `json:"max_instances" yaml:"max_instances"` // default 4
	WaitTimeout  string `json:"wait_timeout" yaml:"wait_timeout"`   // default "5s"

	InstancePerCall bool   `json:"instance_per_call,omitempty" yaml:"instance_per_call,omitempty"` // a fresh instance for every call
	Snapshot        string `json:"snapshot,omitempty" yaml:"snapshot,omitempty"`                   // "off" (the default), "strict" or "shared_seed": where instances begin
}
