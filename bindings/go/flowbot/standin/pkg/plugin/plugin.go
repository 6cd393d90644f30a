// SPDX-License-Identifier: GPL-3.0-only

// Package plugin stands in for flowbot's: the documented types.
package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/flowline-io/flowbot/pkg/types"
	"github.com/goccy/go-yaml"
)

// Runner runs a plugin.
type Runner interface {
	Load(ctx context.Context, manifest *Manifest) (*PluginInfo, error)
	Start(ctx context.Context, config json.RawMessage) error
	Stop(ctx context.Context) error
	Call(ctx context.Context, function string, params json.RawMessage) (json.RawMessage, error)
	Health(ctx context.Context) (*HealthStatus, error)
}

// HostAPI is what a plugin can ask for.
type HostAPI interface {
	GetConfig(ctx context.Context, key string) (string, error)
	Log(ctx context.Context, level string, msg string, fields map[string]string)
	KVGet(ctx context.Context, key string) ([]byte, error)
	KVSet(ctx context.Context, key string, value []byte) error
	KVDelete(ctx context.Context, key string) error
	HTTPRequest(ctx context.Context, req *HostHTTPRequest) (*HostHTTPResponse, error)
	EmitEvent(ctx context.Context, event types.DataEvent) error
}

type (
	// PluginInfo describes a loaded plugin.
	PluginInfo struct {
		Name         string
		Version      string
		Provides     Provides
		ConfigSchema json.RawMessage
	}
	// HealthStatus says how a plugin is.
	HealthStatus struct {
		Ready     bool
		LastError string
		Uptime    time.Duration
	}
	// PluginState is where a plugin is in its life.
	PluginState string
	// HostHTTPRequest is a request that the host makes.
	HostHTTPRequest struct {
		Method  string            `json:"method"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Body    []byte            `json:"body"`
	}
	// HostHTTPResponse is what came back.
	HostHTTPResponse struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    []byte            `json:"body"`
	}
)

// The states.
const (
	StateLoading  PluginState = "loading"
	StateRunning  PluginState = "running"
	StateStopping PluginState = "stopping"
	StateError    PluginState = "error"
)

type (
	// Manifest is a plugin.yaml.
	Manifest struct {
		Name         string          `json:"name" yaml:"name"`
		Version      string          `json:"version" yaml:"version"`
		Description  string          `json:"description" yaml:"description"`
		Author       string          `json:"author" yaml:"author"`
		Runtime      RuntimeKind     `json:"runtime" yaml:"runtime"`
		Provides     Provides        `json:"provides" yaml:"provides"`
		GRPC         *GRPCConfig     `json:"grpc" yaml:"grpc"`
		Wasm         *WasmConfig     `json:"wasm" yaml:"wasm"`
		ConfigSchema json.RawMessage `json:"config_schema" yaml:"config_schema"`
	}
	// RuntimeKind is where a plugin runs.
	RuntimeKind string
	// Provides is what it implements.
	Provides struct {
		Module    bool          `json:"module" yaml:"module"`
		Abilities []AbilityDecl `json:"abilities" yaml:"abilities"`
		Provider  *ProviderDecl `json:"provider" yaml:"provider"`
	}
	// AbilityDecl is a capability with its operations.
	AbilityDecl struct {
		Capability string   `json:"capability" yaml:"capability"`
		Operations []string `json:"operations" yaml:"operations"`
	}
	// ProviderDecl is a provider.
	ProviderDecl struct {
		Name  string `json:"name" yaml:"name"`
		OAuth bool   `json:"oauth" yaml:"oauth"`
	}
	// GRPCConfig is for a process.
	GRPCConfig struct {
		Binary string   `json:"binary" yaml:"binary"`
		Args   []string `json:"args" yaml:"args"`
	}
	// WasmConfig is for a module.
	WasmConfig struct {
		Module      string           `json:"module" yaml:"module"`
		Permissions *WasmPermissions `json:"permissions" yaml:"permissions"`
		Pool        *WasmPoolConfig  `json:"pool" yaml:"pool"`
	}
	// WasmPermissions is what a module asks for.
	WasmPermissions struct {
		HTTP       []HTTPPermission `json:"http" yaml:"http"`
		Filesystem []FSPermission   `json:"filesystem" yaml:"filesystem"`
		Memory     *MemoryLimit     `json:"memory" yaml:"memory"`
		Execution  *ExecutionLimit  `json:"execution" yaml:"execution"`
	}
	// HTTPPermission names a host.
	HTTPPermission struct {
		Host string `json:"host" yaml:"host"`
	}
	// FSPermission names a folder.
	FSPermission struct {
		Path string `json:"path" yaml:"path"`
		Mode string `json:"mode" yaml:"mode"`
	}
	// MemoryLimit bounds memory.
	MemoryLimit struct {
		Max string `json:"max" yaml:"max"`
	}
	// ExecutionLimit bounds time.
	ExecutionLimit struct {
		Timeout string `json:"timeout" yaml:"timeout"`
	}
	// WasmPoolConfig sizes the pool.
	WasmPoolConfig struct {
		MaxInstances int    `json:"max_instances" yaml:"max_instances"`
		WaitTimeout  string `json:"wait_timeout" yaml:"wait_timeout"`
	}
)

// The runtimes.
const (
	RuntimeGRPC RuntimeKind = "grpc"
	RuntimeWasm RuntimeKind = "wasm"
)

// ParseManifest reads a plugin.yaml.
func ParseManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := yaml.Unmarshal(data, m); err != nil {
		return nil, err
	}
	sections := map[RuntimeKind]bool{RuntimeGRPC: m.GRPC != nil, RuntimeWasm: m.Wasm != nil}
	if m.Name == "" || !sections[m.Runtime] {
		return nil, fmt.Errorf("the manifest lacks a name, a runtime or the section of its runtime %q", m.Runtime)
	}
	return m, nil
}

// ValidateConfig checks, in flowbot, the config against ConfigSchema. Manifests here have none.
func (m *Manifest) ValidateConfig(json.RawMessage) error {
	if len(m.ConfigSchema) != 0 {
		return fmt.Errorf("the stand-in knows no schemas")
	}
	return nil
}
