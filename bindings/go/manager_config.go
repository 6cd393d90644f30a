package flowplug

import (
	"encoding/json"
	"time"
)

// PluginConfig is flowbot's plugins section.
type PluginConfig struct {
	Enabled bool           `json:"enabled" yaml:"enabled"` // false: nothing is started
	Sources []SourceConfig `json:"sources" yaml:"sources"`
	// Config is each plugin's, by identity; ${env:NAME} in its texts is replaced when the plugin is started.
	Config       map[string]json.RawMessage `json:"config" yaml:"config"`
	HotReload    bool                       `json:"hot_reload" yaml:"hot_reload"`       // whether changes are followed
	DrainTimeout time.Duration              `json:"drain_timeout" yaml:"drain_timeout"` // 0: 30 s
	MaxPlugins   int                        `json:"max_plugins" yaml:"max_plugins"`     // 0: no bound
}

// SourceConfig is where plugins come from.
type SourceConfig struct {
	Type         string          `json:"type" yaml:"type"`                   // "local"; "git" and "oci" are [ErrUnsupported] when the manager starts
	Path         string          `json:"path,omitempty" yaml:"path"`         // local: a folder of plugin folders
	Registry     string          `json:"registry,omitempty" yaml:"registry"` // oci
	Repos        []GitRepoConfig `json:"repos,omitempty" yaml:"repos"`
	PollInterval time.Duration   `json:"poll_interval,omitempty" yaml:"poll_interval"` // 0: the default
}

// GitRepoConfig is a repository of a source.
type GitRepoConfig struct {
	URL          string        `json:"url" yaml:"url"`
	Ref          string        `json:"ref,omitempty" yaml:"ref"`
	PollInterval time.Duration `json:"poll_interval,omitempty" yaml:"poll_interval"`
}

// Instance is a plugin of a Manager.
type Instance struct {
	Identity  string      `json:"identity"`
	Manifest  *Manifest   `json:"manifest"` // nil if it could not be read
	State     PluginState `json:"state"`
	StartedAt time.Time   `json:"started_at"` // zero if it never was
	LastError string      `json:"last_error"`
	Restarts  uint64      `json:"restarts"`
	Calls     uint64      `json:"calls"`
	InFlight  uint64      `json:"in_flight"`
	Source    string      `json:"source"` // empty: it was loaded by hand
	Folder    string      `json:"folder"`
}

// parseList reads what the library says of a manager's plugins.
func parseList(text []byte) ([]Instance, error) {
	var list []Instance
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, notUnderstood("list of plugins", err)
	}
	for i := range list {
		if m := list[i].Manifest; m != nil {
			m.baseDir = list[i].Folder
		}
	}
	return list, nil
}

// withConfigs is the section with more plugins' configs in it, which go before its own.
func (c *PluginConfig) withConfigs(configs map[string]json.RawMessage) *PluginConfig {
	merged := *c
	merged.Config = make(map[string]json.RawMessage, len(c.Config)+len(configs))
	for _, of := range []map[string]json.RawMessage{c.Config, configs} {
		for identity, config := range of {
			merged.Config[identity] = config
		}
	}
	return &merged
}
