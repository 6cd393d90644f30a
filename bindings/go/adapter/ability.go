package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// Invoker runs one operation of an ability. The params marshal to a JSON object, or are nil.
type Invoker func(ctx context.Context, params any) (*InvokeResult, error)

// Ability is one of the abilities that a plugin's manifest declares.
type Ability struct {
	// Capability is its name, as declared.
	Capability string
	operations []string
	plugin     Caller
}

// Abilities makes an Ability of each that the manifest declares: info.Provides of what Load returned, or manifest.Provides.
func Abilities(plugin Caller, provides flowplug.Provides) []*Ability {
	abilities := make([]*Ability, 0, len(provides.Abilities))
	for _, declared := range provides.Abilities {
		abilities = append(abilities, NewAbility(plugin, declared))
	}
	return abilities
}

// NewAbility makes an Ability of one declaration.
func NewAbility(plugin Caller, declared flowplug.AbilityDecl) *Ability {
	return &Ability{declared.Capability, slices.Clone(declared.Operations), plugin}
}

// Invokers returns an invoker for each declared operation, by its name, for a host that keeps a table of them.
func (a *Ability) Invokers() iter.Seq2[string, Invoker] {
	return func(yield func(string, Invoker) bool) {
		for _, operation := range a.operations {
			if !yield(operation, a.invoker(operation)) {
				return
			}
		}
	}
}

// Invoker returns the invoker of one operation; [flowplug.ErrNotFound] if it is not declared.
func (a *Ability) Invoker(operation string) (Invoker, error) {
	if !slices.Contains(a.operations, operation) {
		return nil, undeclared("ability_call", fmt.Sprintf("the operation %q of the ability %q", operation, a.Capability))
	}
	return a.invoker(operation), nil
}

// Invoke runs one operation; [flowplug.ErrNotFound] if it is not declared, and the plugin does not hear of it.
func (a *Ability) Invoke(ctx context.Context, operation string, params any) (*InvokeResult, error) {
	invoke, err := a.Invoker(operation)
	if err != nil {
		return nil, err
	}
	return invoke(ctx, params)
}

func (a *Ability) invoker(operation string) Invoker {
	return func(ctx context.Context, params any) (*InvokeResult, error) {
		result := new(InvokeResult)
		if err := ask(ctx, a.plugin, "ability_call", map[string]any{"operation": operation, "params": params}, result); err != nil {
			return nil, err
		}
		if result.Capability == "" {
			result.Capability = a.Capability
		}
		if result.Operation == "" {
			result.Operation = operation
		}
		return result, nil
	}
}

// InvokeResult is what an operation came to.
type InvokeResult struct {
	// Capability and Operation are those that were asked where the plugin does not say them.
	Capability string `json:"capability"`
	Operation  string `json:"operation"`
	// Data is what was asked for, as the plugin wrote it; nil if there is none. See Decode.
	Data json.RawMessage `json:"data,omitempty"`
	// Page says how to go on where Data is a part.
	Page json.RawMessage `json:"page,omitempty"`
	// Text is the answer in words for a person.
	Text string         `json:"text,omitempty"`
	Meta map[string]any `json:"meta,omitempty"`
	// Events are those that the operation has emitted.
	Events []EventRef `json:"events,omitempty"`
}

// EventRef names an event.
type EventRef struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	EntityID  string `json:"entity_id,omitempty"`
}

// UnmarshalJSON reads null members as absent.
func (r *InvokeResult) UnmarshalJSON(data []byte) error {
	type fields InvokeResult
	if err := json.Unmarshal(data, (*fields)(r)); err != nil {
		return err
	}
	if isNull(r.Data) {
		r.Data = nil
	}
	if isNull(r.Page) {
		r.Page = nil
	}
	return nil
}

// Decode reads Data into value, which stays as it is if there is none.
func (r *InvokeResult) Decode(value any) error {
	if r.Data == nil {
		return nil
	}
	if err := json.Unmarshal(r.Data, value); err != nil {
		return misshapen("ability_call", err)
	}
	return nil
}
