// SPDX-License-Identifier: GPL-3.0-only

// Package adapter stands in for flowbot's: a plugin as a module, an ability and a provider, with the calls that flowbot's adapters make.
package adapter

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/flowline-io/flowbot/pkg/capability"
	"github.com/flowline-io/flowbot/pkg/hub"
	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/types"
)

// ask marshals the params, calls, and reads the answer. As in flowbot, a call without a context of its own has none.
func ask[T any](ctx context.Context, r plugin.Runner, function string, params any) (answer T, err error) {
	var raw json.RawMessage
	if params != nil {
		if raw, err = json.Marshal(params); err != nil {
			return answer, err
		}
	}
	if raw, err = r.Call(ctx, function, raw); err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(raw, &answer)
}

// PluginModuleAdapter is a plugin as a module.
type PluginModuleAdapter struct {
	runner atomic.Pointer[plugin.Runner]
	ready  atomic.Bool
}

// NewModuleAdapter makes one.
func NewModuleAdapter(_ *plugin.Manifest, r plugin.Runner) *PluginModuleAdapter {
	a := new(PluginModuleAdapter)
	a.SwapRunner(r)
	return a
}

// SwapRunner puts another runner in its place.
func (a *PluginModuleAdapter) SwapRunner(r plugin.Runner) { a.runner.Store(&r) }

func (a *PluginModuleAdapter) now() plugin.Runner { return *a.runner.Load() }

// Init starts the plugin, whoever has started it before.
func (a *PluginModuleAdapter) Init(config json.RawMessage) error {
	err := a.now().Start(context.Background(), config)
	if err == nil {
		a.ready.Store(true)
	}
	return err
}

// IsReady says whether Init went well.
func (a *PluginModuleAdapter) IsReady() bool { return a.ready.Load() }

// Bootstrap calls bootstrap.
func (a *PluginModuleAdapter) Bootstrap() error {
	_, err := a.now().Call(context.Background(), "bootstrap", nil)
	return err
}

// Input calls input.
func (a *PluginModuleAdapter) Input(ctx types.Context, head types.KV, content any) (types.MsgPayload, error) {
	return a.message("input", map[string]any{"context": ctx, "head": head, "content": content})
}

// Command calls command.
func (a *PluginModuleAdapter) Command(ctx types.Context, content any) (types.MsgPayload, error) {
	return a.message("command", map[string]any{"context": ctx, "content": content})
}

// Form calls form.
func (a *PluginModuleAdapter) Form(ctx types.Context, values types.KV) (types.MsgPayload, error) {
	return a.message("form", map[string]any{"context": ctx, "values": values})
}

// message reads a message by its type, or by its shape.
func (a *PluginModuleAdapter) message(function string, params map[string]any) (types.MsgPayload, error) {
	raw, err := ask[json.RawMessage](context.Background(), a.now(), function, params)
	if err != nil {
		return nil, err
	}
	var values types.KVMsg
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, err
	}
	kind, _ := values["_type"].(string)
	switch payload := types.ToPayload(kind, raw).(type) {
	case nil:
	case types.KVMsg:
		delete(payload, "_type")
		return payload, nil
	default:
		return payload, nil
	}
	if text, _ := values["text"].(string); text != "" {
		return types.TextMsg{Text: text}, nil
	}
	return values, nil
}

// Rules calls rules; an error is no rules.
func (a *PluginModuleAdapter) Rules() []any {
	rules, err := ask[[]any](context.Background(), a.now(), "rules", nil)
	if err != nil {
		return nil
	}
	return rules
}

// Help calls help.
func (a *PluginModuleAdapter) Help() (map[string][]string, error) {
	return ask[map[string][]string](context.Background(), a.now(), "help", nil)
}

// PluginAbilityAdapter is a plugin as an ability. It keeps the runner that it was made with.
type PluginAbilityAdapter struct {
	runner     plugin.Runner
	capability hub.CapabilityType
	operations []string
}

// NewAbilityAdapter makes one.
func NewAbilityAdapter(r plugin.Runner, capability string, operations []string) *PluginAbilityAdapter {
	return &PluginAbilityAdapter{r, hub.CapabilityType(capability), operations}
}

// Register makes it the one who performs its operations.
func (a *PluginAbilityAdapter) Register() error {
	for _, operation := range a.operations {
		perform := func(ctx context.Context, params map[string]any) (*capability.InvokeResult, error) {
			return ask[*capability.InvokeResult](ctx, a.runner, "ability_call", map[string]any{"operation": operation, "params": params})
		}
		if err := capability.RegisterInvoker(a.capability, operation, perform); err != nil {
			return err
		}
	}
	return nil
}

// Unregister undoes Register.
func (a *PluginAbilityAdapter) Unregister() {
	for _, operation := range a.operations {
		capability.UnregisterInvoker(a.capability, operation)
	}
}

// PluginProviderAdapter is a plugin as a provider. It keeps the runner that it was made with.
type PluginProviderAdapter struct{ runner plugin.Runner }

// NewProviderAdapter makes one.
func NewProviderAdapter(r plugin.Runner, _ string) *PluginProviderAdapter {
	return &PluginProviderAdapter{r}
}

// WebhookConvert makes events of a webhook.
func (a *PluginProviderAdapter) WebhookConvert(payload []byte) ([]types.DataEvent, error) {
	events, err := ask[[]types.DataEvent](context.Background(), a.runner, "webhook_convert", map[string]any{"payload": payload})
	for i := range events {
		e := &events[i]
		if e.Data == nil {
			e.Data = types.KV{}
		}
		if e.Tags == nil {
			e.Tags = types.KV{}
		}
		if e.CreatedAt.IsZero() {
			e.CreatedAt = time.Now()
		}
	}
	return events, err
}

// GetAuthorizeURL calls oauth_authorize; an error is no address.
func (a *PluginProviderAdapter) GetAuthorizeURL(state string) string {
	answer, err := ask[struct{ URL string }](context.Background(), a.runner, "oauth_authorize", map[string]string{"state": state})
	if err != nil {
		return ""
	}
	return answer.URL
}
