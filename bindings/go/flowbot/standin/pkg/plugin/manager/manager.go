// SPDX-License-Identifier: GPL-3.0-only

// Package manager stands in for flowbot's plugin manager: what it calls, in the order in which it does.
package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/flowline-io/flowbot/pkg/module"
	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/plugin/adapter"
	"github.com/flowline-io/flowbot/pkg/plugin/grpc"
	plugintypes "github.com/flowline-io/flowbot/pkg/plugin/types"
	"github.com/flowline-io/flowbot/pkg/plugin/wasm"
	"github.com/flowline-io/flowbot/pkg/providers"
)

type (
	// PluginConfig is the section `plugins` of the config.
	PluginConfig = plugintypes.PluginConfig
	// SourceConfig is a source in it.
	SourceConfig = plugintypes.SourceConfig
)

// PluginInstance is a plugin that runs.
type PluginInstance struct {
	Identity  string
	Manifest  *plugin.Manifest
	Runner    plugin.Runner
	Adapters  *PluginAdapters
	State     plugin.PluginState
	StartedAt time.Time
	LastError error
}

// PluginAdapters is what was registered for it.
type PluginAdapters struct {
	Module    *adapter.PluginModuleAdapter
	Abilities []*adapter.PluginAbilityAdapter
	Provider  *adapter.PluginProviderAdapter
}

// PluginManager keeps the plugins.
type PluginManager struct {
	config *PluginConfig
	log    zerolog.Logger
	mu     sync.RWMutex
	all    map[string]*PluginInstance
}

// NewPluginManager makes a manager without plugins.
func NewPluginManager(cfg *PluginConfig, log zerolog.Logger) *PluginManager {
	return &PluginManager{config: cfg, log: log, all: map[string]*PluginInstance{}}
}

// Init loads what lies in the folders of the sources. A plugin that fails is logged, and the next one is loaded.
func (m *PluginManager) Init(ctx context.Context, configs map[string]json.RawMessage) error {
	for _, source := range m.config.Sources {
		found, err := filepath.Glob(filepath.Join(source.Path, "*", "plugin.yaml"))
		if err != nil {
			return err
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			manifest, err := plugin.ParseManifest(text)
			if err != nil {
				continue
			}
			// Who a plugin is says its folder.
			manifest.Name = filepath.Base(filepath.Dir(path))
			if err := m.load(ctx, manifest.Name, manifest, configs[manifest.Name]); err != nil {
				m.log.Error().Err(err).Str("identity", manifest.Name).Msg("not loaded")
			}
		}
	}
	return nil
}

// load makes a runner and loads it, registers what it provides, and starts it last.
func (m *PluginManager) load(ctx context.Context, identity string, manifest *plugin.Manifest, config json.RawMessage) error {
	if err := manifest.ValidateConfig(config); err != nil {
		return err
	}
	var runner plugin.Runner
	var err error
	switch manifest.Runtime {
	case plugin.RuntimeGRPC:
		runner, err = grpc.NewGrpcRunner(manifest)
	case plugin.RuntimeWasm:
		runner, err = wasm.NewWasmRunner(manifest)
	default:
		err = fmt.Errorf("runtime %q", manifest.Runtime)
	}
	if err != nil {
		return err
	}
	if _, err := runner.Load(ctx, manifest); err != nil {
		return err
	}
	adapters, err := register(identity, manifest, runner)
	if err != nil {
		return err
	}
	if err := runner.Start(ctx, config); err != nil {
		return err
	}
	m.keep(&PluginInstance{Identity: identity, Manifest: manifest, Runner: runner, Adapters: adapters})
	return nil
}

func (m *PluginManager) keep(instance *PluginInstance) {
	instance.State, instance.StartedAt = plugin.StateRunning, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[instance.Identity] = instance
}

// ReloadPlugin starts the new one, swaps the module's runner alone where both provide the same, and stops the old one.
func (m *PluginManager) ReloadPlugin(ctx context.Context, identity string, manifest *plugin.Manifest, config json.RawMessage) error {
	m.mu.RLock()
	old := m.all[identity]
	m.mu.RUnlock()
	if old == nil {
		return fmt.Errorf("plugin %s not found", identity)
	}
	if err := manifest.ValidateConfig(config); err != nil {
		return err
	}
	var next plugin.Runner
	var err error
	switch manifest.Runtime {
	case plugin.RuntimeGRPC:
		next, err = grpc.NewGrpcRunner(manifest)
	case plugin.RuntimeWasm:
		next, err = wasm.NewWasmRunner(manifest)
	}
	if err != nil {
		return err
	}
	if _, err := next.Load(ctx, manifest); err != nil {
		return err
	}
	if err := next.Start(ctx, config); err != nil {
		return err
	}
	switch {
	case !reflect.DeepEqual(old.Manifest.Provides, manifest.Provides):
		unregister(old)
		if _, err := register(identity, manifest, next); err != nil {
			m.log.Warn().Err(err).Msg("not registered")
		}
	case old.Adapters.Module != nil:
		old.Adapters.Module.SwapRunner(next)
	}
	drain, cancel := context.WithTimeout(ctx, m.config.DrainTimeout)
	defer cancel()
	if err := old.Runner.Stop(drain); err != nil {
		m.log.Warn().Err(err).Msg("the old runner was not stopped")
	}
	m.keep(&PluginInstance{Identity: identity, Manifest: manifest, Runner: next, Adapters: old.Adapters})
	return nil
}

// UnloadPlugin takes back what was registered, and stops the plugin.
func (m *PluginManager) UnloadPlugin(ctx context.Context, identity string) error {
	m.mu.Lock()
	instance := m.all[identity]
	delete(m.all, identity)
	m.mu.Unlock()
	if instance == nil {
		return fmt.Errorf("plugin %s not found", identity)
	}
	unregister(instance)
	drain, cancel := context.WithTimeout(ctx, m.config.DrainTimeout)
	defer cancel()
	return instance.Runner.Stop(drain)
}

// List returns the plugins that run.
func (m *PluginManager) List() []*PluginInstance {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []*PluginInstance
	for _, instance := range m.all {
		all = append(all, instance)
	}
	return all
}

func register(identity string, manifest *plugin.Manifest, runner plugin.Runner) (*PluginAdapters, error) {
	adapters := new(PluginAdapters)
	if manifest.Provides.Module {
		adapters.Module = adapter.NewModuleAdapter(manifest, runner)
		module.Register(identity, adapters.Module)
	}
	for _, declared := range manifest.Provides.Abilities {
		ability := adapter.NewAbilityAdapter(runner, declared.Capability, declared.Operations)
		if err := ability.Register(); err != nil {
			return nil, err
		}
		adapters.Abilities = append(adapters.Abilities, ability)
	}
	if declared := manifest.Provides.Provider; declared != nil {
		adapters.Provider = adapter.NewProviderAdapter(runner, declared.Name)
		if declared.OAuth {
			providers.RegisterOAuthProvider(declared.Name, func() providers.OAuthProvider { return adapters.Provider })
		}
	}
	return adapters, nil
}

func unregister(instance *PluginInstance) {
	if instance.Adapters.Module != nil {
		module.Unregister(instance.Identity)
	}
	for _, ability := range instance.Adapters.Abilities {
		ability.Unregister()
	}
	if declared := instance.Manifest.Provides.Provider; declared != nil && declared.OAuth {
		providers.UnregisterOAuthProvider(declared.Name)
	}
}
