// SPDX-License-Identifier: GPL-3.0-only

// Package types stands in for flowbot's: the section `plugins` of its config.
package types

import (
	"encoding/json"
	"time"
)

// SourceConfig says where plugins come from.
type SourceConfig struct {
	Type         string `json:"type" yaml:"type"`
	Path         string `json:"path" yaml:"path"`
	Registry     string `json:"registry" yaml:"registry"`
	PollInterval string `json:"poll_interval" yaml:"poll_interval"`
}

// PluginConfig is the section.
type PluginConfig struct {
	Enabled      bool                       `json:"enabled" yaml:"enabled"`
	Sources      []SourceConfig             `json:"sources" yaml:"sources"`
	Config       map[string]json.RawMessage `json:"config" yaml:"config"`
	HotReload    bool                       `json:"hot_reload" yaml:"hot_reload"`
	DrainTimeout time.Duration              `json:"drain_timeout" yaml:"drain_timeout"`
	MaxPlugins   int                        `json:"max_plugins" yaml:"max_plugins"`
}
