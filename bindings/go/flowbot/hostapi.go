// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// services answers a plugin from flowbot's HostAPI. The methods get the library's context as it is: flowplug.HTTPClient goes by it.
type services struct{ api plugin.HostAPI }

var _ flowplug.HostAPI = services{}

func (s services) GetConfig(ctx context.Context, key string) (string, error) {
	value, err := s.api.GetConfig(ctx, key)
	return value, toLibrary(err)
}

func (s services) Log(ctx context.Context, level, msg string, fields map[string]string) {
	s.api.Log(ctx, level, msg, fields)
}

func (s services) KVGet(ctx context.Context, key string) ([]byte, error) {
	value, err := s.api.KVGet(ctx, key)
	return value, toLibrary(err)
}

func (s services) KVSet(ctx context.Context, key string, value []byte) error {
	return toLibrary(s.api.KVSet(ctx, key, value))
}

func (s services) KVDelete(ctx context.Context, key string) error {
	return toLibrary(s.api.KVDelete(ctx, key))
}

func (s services) HTTPRequest(ctx context.Context, r *flowplug.HostHTTPRequest) (*flowplug.HostHTTPResponse, error) {
	response, err := s.api.HTTPRequest(ctx, &plugin.HostHTTPRequest{Method: r.Method, URL: r.URL, Headers: r.Headers, Body: r.Body})
	if err != nil || response == nil {
		return nil, toLibrary(err)
	}
	return &flowplug.HostHTTPResponse{Status: response.Status, Headers: response.Headers, Body: response.Body}, nil
}

func (s services) EmitEvent(ctx context.Context, e flowplug.DataEvent) error {
	event, err := eventOf(e)
	if err != nil {
		return err
	}
	return toLibrary(s.api.EmitEvent(ctx, event))
}

// eventOf is the event with its data and tags as flowbot holds them, never nil.
func eventOf(e flowplug.DataEvent) (types.DataEvent, error) {
	event := types.DataEvent{
		EventID: e.EventID, EventType: e.EventType, Source: e.Source, Capability: e.Capability, Operation: e.Operation, App: e.App,
		EntityID: e.EntityID, CreatedAt: e.CreatedAt, IdempotencyKey: e.IdempotencyKey, UID: e.UID, Topic: e.Topic,
		Data: types.KV{}, Tags: types.KV{},
	}
	for _, part := range []struct {
		name string
		raw  json.RawMessage
		into *types.KV
	}{{"data", e.Data, &event.Data}, {"tags", e.Tags, &event.Tags}} {
		if part.raw == nil {
			continue
		}
		if err := json.Unmarshal(part.raw, part.into); err != nil {
			return event, &flowplug.Error{Status: flowplug.StatusInvalidArgument, Message: fmt.Sprintf("The event's %s must be a JSON object: %v", part.name, err)}
		}
	}
	return event, nil
}
