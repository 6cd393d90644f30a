// SPDX-License-Identifier: GPL-3.0-only

// Package module stands in for flowbot's module framework, without its web side, pages and rule sets.
package module

import (
	"encoding/json"

	"github.com/flowline-io/flowbot/pkg/types"
)

// Handler is a module.
type Handler interface {
	Init(config json.RawMessage) error
	IsReady() bool
	Bootstrap() error
	Help() (map[string][]string, error)
	Rules() []any
	Input(ctx types.Context, head types.KV, content any) (types.MsgPayload, error)
	Command(ctx types.Context, content any) (types.MsgPayload, error)
	Form(ctx types.Context, values types.KV) (types.MsgPayload, error)
}

var handlers = map[string]Handler{}

// Register adds a module; a name can be taken once.
func Register(name string, module Handler) {
	if _, taken := handlers[name]; taken || module == nil {
		panic("module " + name + " is registered twice, or is none")
	}
	handlers[name] = module
}

// Unregister removes a module.
func Unregister(name string) { delete(handlers, name) }

// List returns the modules by their names.
func List() map[string]Handler { return handlers }

// Init starts every module with its entry in the server's config, an array of objects with a name, or with {"enabled": true}. The first error ends it.
func Init(config json.RawMessage) error {
	var entries []json.RawMessage
	if err := json.Unmarshal(config, &entries); err != nil {
		return err
	}
	of := map[string]json.RawMessage{}
	for _, entry := range entries {
		var of1 struct{ Name string }
		if err := json.Unmarshal(entry, &of1); err != nil {
			return err
		}
		of[of1.Name] = entry
	}
	for name, module := range handlers {
		entry, there := of[name]
		if !there {
			entry = json.RawMessage(`{"enabled": true}`)
		}
		if err := module.Init(entry); err != nil {
			return err
		}
	}
	return nil
}

// Bootstrap runs that of every module that is ready. The first error ends it.
func Bootstrap() error {
	for _, module := range handlers {
		if module.IsReady() {
			if err := module.Bootstrap(); err != nil {
				return err
			}
		}
	}
	return nil
}
