// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

func TestBothContexts(t *testing.T) {
	who := types.Context{Id: "m1", Platform: "slack", Topic: "c1", AsUser: "u1", FormRuleId: "r1", Headers: map[string][]string{"A": {"b"}}}
	params, err := json.Marshal(map[string]any{"context": who, "content": "9007199254740993"})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Context map[string]any
		Content any
	}
	if err := json.Unmarshal(withBothContexts("command", params), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"Id": "m1", "Platform": "slack", "Topic": "c1", "AsUser": "u1", "FormRuleId": "r1", "Headers": map[string]any{"A": []any{"b"}},
		"platform": "slack", "channel_id": "c1", "user_id": "u1", "metadata": map[string]any{"Id": "m1", "FormRuleId": "r1"},
	} {
		if !reflect.DeepEqual(got.Context[name], want) {
			t.Errorf("%s is %v and not %v", name, got.Context[name], want)
		}
	}
	if got.Content != "9007199254740993" {
		t.Error(got.Content)
	}
}

func TestContextsThatStayAsTheyAre(t *testing.T) {
	for _, c := range []struct{ function, params string }{
		{"ability_call", `{"context":{"AsUser":"u"}}`},
		{"command", `{"context":"{\"AsUser\":\"u\"}"}`},
		{"command", `{"content":1}`},
		{"command", `{"context":null}`},
		{"command", `{"context":{}}`},
		{"form", `[1]`},
		{"input", ``},
		{"input", `{`},
	} {
		if got := string(withBothContexts(c.function, json.RawMessage(c.params))); got != c.params {
			t.Errorf("%s of %s became %s", c.params, c.function, got)
		}
	}
	// What is there already is somebody's word.
	there := `{"context":{"AsUser":"a","user_id":"b","metadata":{}}}`
	if got := string(withBothContexts("form", json.RawMessage(there))); got != there {
		t.Error(got)
	}
	// What stands around it is not written anew.
	around := `{"values" : {"a":"<&>", "n":1e2}, "context" : { "AsUser":"a" } , "context2":{}}`
	if got := string(withBothContexts("form", json.RawMessage(around))); got != `{"values" : {"a":"<&>", "n":1e2}, "context" : { "AsUser":"a" ,"metadata":{},"user_id":"a"} , "context2":{}}` {
		t.Error(got)
	}
}

func TestErrorsHaveFlowbotsKindsToo(t *testing.T) {
	for status := flowplug.StatusInvalidArgument; status <= flowplug.StatusUnsupported; status++ {
		original := &flowplug.Error{Status: status, Message: "m", Plugin: "p"}
		err := translated(original)
		var e *flowplug.Error
		if !errors.As(err, &e) || e != original || err.Error() != original.Error() || !errors.Is(err, kindOf(status)) {
			t.Errorf("%s: %v", status, err)
		}
	}
	for status, kind := range map[flowplug.Status]error{
		flowplug.StatusBusy: types.ErrUnavailable, flowplug.StatusTimeout: types.ErrTimeout, flowplug.StatusNotFound: types.ErrNotFound,
		flowplug.StatusPermissionDenied: types.ErrForbidden, flowplug.StatusInvalidConfig: types.ErrInvalidArgument, flowplug.StatusTrap: types.ErrProvider,
		flowplug.StatusUnknownFunction: types.ErrNotImplemented, flowplug.StatusInternal: types.ErrInternal,
	} {
		if kindOf(status) != kind {
			t.Errorf("%s is %v", status, kindOf(status))
		}
	}
	if translated(nil) != nil || translated(context.Canceled) != context.Canceled {
		t.Error("what is not the library's was changed")
	}
}

func TestFlowbotsErrorsForThePlugin(t *testing.T) {
	for kind, want := range map[error]error{
		types.ErrNotFound: flowplug.ErrNotFound, types.ErrForbidden: flowplug.ErrPermissionDenied, types.ErrTimeout: flowplug.ErrTimeout,
		types.ErrUnavailable: flowplug.ErrUnavailable, types.ErrRateLimited: flowplug.ErrBusy, types.ErrInvalidArgument: flowplug.ErrInvalidArgument,
	} {
		if err := toLibrary(errors.Join(errors.New("store"), kind)); !errors.Is(err, want) {
			t.Errorf("%v became %v", kind, err)
		}
	}
	other := errors.New("disk full")
	if toLibrary(other) != other || toLibrary(nil) != nil || toLibrary(flowplug.ErrUseDefault) != flowplug.ErrUseDefault {
		t.Error("what says nothing to the library was changed")
	}
}

func TestEvents(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	event, err := eventOf(flowplug.DataEvent{
		EventID: "e", EventType: "t", Source: "s", Capability: "c", Operation: "o", App: "a", EntityID: "i", CreatedAt: at, IdempotencyKey: "k", UID: "u",
		Topic: "p", Data: json.RawMessage(`{"n":1.5}`),
	})
	want := types.DataEvent{
		EventID: "e", EventType: "t", Source: "s", Capability: "c", Operation: "o", App: "a", EntityID: "i", CreatedAt: at, IdempotencyKey: "k", UID: "u",
		Topic: "p", Data: types.KV{"n": 1.5}, Tags: types.KV{},
	}
	if err != nil || !reflect.DeepEqual(event, want) {
		t.Errorf("%+v, %v", event, err)
	}
	if _, err := eventOf(flowplug.DataEvent{EventType: "t", Tags: json.RawMessage(`[1]`)}); !errors.Is(err, flowplug.ErrInvalidArgument) {
		t.Error(err)
	}
}
