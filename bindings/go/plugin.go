package flowplug

import (
	"encoding/json"
	"time"
)

// PluginInfo describes a loaded plugin.
type PluginInfo struct {
	Name         string          `json:"name"` // the manifest's label
	Version      string          `json:"version"`
	Provides     Provides        `json:"provides"`
	ConfigSchema json.RawMessage `json:"config_schema"`

	Identity string          `json:"identity"`
	Runtime  RuntimeKind     `json:"runtime"`
	Granted  json.RawMessage `json:"granted"`           // the bounds in force
	Requests []PolicyRequest `json:"requests"`          // what became of each wish of the manifest
	Exports  []string        `json:"exports,omitempty"` // of a wasm module
	Imports  []string        `json:"imports,omitempty"`
}

// PolicyRequest is one wish of a manifest and what the policy says to it.
type PolicyRequest struct {
	What    string `json:"what"`  // the policy's key that it falls under: "http", "memory"
	Field   string `json:"field"` // the manifest's
	Asked   string `json:"asked"`
	Granted string `json:"granted"`
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule"`            // the policy's line that decided
	Grant   string `json:"grant,omitempty"` // the line that would grant it; empty where it is granted, and where none would
}

// Admission is what a policy says to all that a manifest asks for: see [Host.Admit].
type Admission struct {
	Allowed  bool            `json:"allowed"` // whether it could be loaded
	Identity string          `json:"identity"`
	Runtime  RuntimeKind     `json:"runtime"`
	Requests []PolicyRequest `json:"requests"` // in the order of the manifest's sections
	Granted  json.RawMessage `json:"granted"`  // the bounds that would be in force, without what is denied
}

// HealthStatus says how a plugin is.
type HealthStatus struct {
	Ready     bool
	LastError string
	Uptime    time.Duration
}

// PluginState is where a plugin is in its life.
type PluginState string

// The states. Call is legal in StateRunning alone.
const (
	StateLoading  PluginState = "loading" // before Start
	StateRunning  PluginState = "running"
	StateStopping PluginState = "stopping"
	StateError    PluginState = "error"
	StateStopped  PluginState = "stopped"
)

// stateNames are in the order of the numbers of the C ABI.
var stateNames = [...]PluginState{StateLoading, StateRunning, StateStopping, StateError, StateStopped}

// parseInfo reads what the library says of a plugin.
func parseInfo(text []byte) (*PluginInfo, error) {
	info := new(PluginInfo)
	if err := json.Unmarshal(text, info); err != nil {
		return nil, notUnderstood("description of the plugin", err)
	}
	if isNull(info.ConfigSchema) {
		info.ConfigSchema = nil
	}
	return info, nil
}

// parseHealth reads what the library says of a plugin's health.
func parseHealth(text []byte) (*HealthStatus, error) {
	var h struct {
		Ready     bool   `json:"ready"`
		LastError string `json:"last_error"`
		UptimeNS  int64  `json:"uptime_ns"`
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, notUnderstood("health of the plugin", err)
	}
	return &HealthStatus{Ready: h.Ready, LastError: h.LastError, Uptime: time.Duration(h.UptimeNS)}, nil
}

func notUnderstood(what string, err error) error {
	return &Error{Status: StatusInternal, Message: "The library's " + what + " was not understood: " + err.Error()}
}
