// SPDX-License-Identifier: GPL-3.0-only

// Package capability stands in for flowbot's: who performs which operation of which capability.
package capability

import (
	"context"
	"sync"

	"github.com/flowline-io/flowbot/pkg/hub"
	"github.com/flowline-io/flowbot/pkg/types"
)

// Invoker performs an operation.
type Invoker func(ctx context.Context, params map[string]any) (*InvokeResult, error)

// InvokeResult is what it answers.
type InvokeResult struct {
	Capability hub.CapabilityType `json:"capability"`
	Operation  string             `json:"operation"`
	Data       any                `json:"data,omitzero"`
	Page       any                `json:"page,omitzero"`
	Text       string             `json:"text,omitzero"`
	Meta       map[string]any     `json:"meta,omitzero"`
	Events     []EventRef         `json:"events,omitzero"`
}

// EventRef names an event.
type EventRef struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	EntityID  string `json:"entity_id,omitzero"`
}

type name struct {
	capability hub.CapabilityType
	operation  string
}

var known sync.Map // of Invoker, by name

// RegisterInvoker says who performs the operation from now on.
func RegisterInvoker(capability hub.CapabilityType, operation string, invoker Invoker) error {
	if capability == "" || operation == "" || invoker == nil {
		return types.ErrInvalidArgument
	}
	known.Store(name{capability, operation}, invoker)
	return nil
}

// UnregisterInvoker says that nobody does.
func UnregisterInvoker(capability hub.CapabilityType, operation string) {
	known.Delete(name{capability, operation})
}

// Invoke has the operation performed.
func Invoke(ctx context.Context, capability hub.CapabilityType, operation string, params map[string]any) (*InvokeResult, error) {
	invoker, there := known.Load(name{capability, operation})
	if !there {
		return nil, types.ErrNotFound
	}
	return invoker.(Invoker)(ctx, params)
}
