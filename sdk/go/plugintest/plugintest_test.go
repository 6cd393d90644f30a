package plugintest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	sdk "github.com/flowplug/flowplug/sdk/go"
	"github.com/flowplug/flowplug/sdk/go/plugintest"
)

// shop has everything that a plugin can have.
type shop struct {
	sdk.ModuleBase
	sdk.Operations
}

var _ interface {
	sdk.Module
	sdk.Ability
	sdk.Provider
	sdk.Listener
} = shop{}

func (shop) Init(_ context.Context, config json.RawMessage) error {
	if string(config) == "null" {
		return errors.New("a config is needed")
	}
	return nil
}

func (shop) Bootstrap(ctx context.Context) error { return sdk.Store(ctx, "ready", true) }

func (shop) IsReady(ctx context.Context) bool {
	_, found, err := sdk.Load[bool](ctx, "ready")
	return found && err == nil
}

func (shop) Command(ctx context.Context, who sdk.Context, content json.RawMessage) (any, error) {
	switch string(content) {
	case `"panic"`:
		panic("oh no")
	case `"wait"`:
		_, err := sdk.Host(ctx).GetConfig(ctx, "name")
		return nil, err
	}
	sdk.Logger(ctx).Info("asked", "who", who.UserID)
	return sdk.TextMsg{Text: fmt.Sprintf("%s on %s says %s", who.UserID, who.Platform, content)}, nil
}

func (shop) Form(_ context.Context, who sdk.Context, values map[string]string) (any, error) {
	return sdk.InfoMsg{Title: who.FormID, Model: values}, nil
}

func (shop) Input(_ context.Context, who sdk.Context, head map[string]any, content json.RawMessage) (any, error) {
	return sdk.TextMsg{Text: fmt.Sprint(who.ChannelID, head["n"], string(content))}, nil
}

func (shop) Rules(context.Context) (any, error) { return []string{"rule"}, nil }

func (shop) Help(context.Context) (map[string][]string, error) {
	return map[string][]string{"shop": {"buy"}}, nil
}

func (shop) ConvertWebhook(_ context.Context, payload []byte) ([]sdk.DataEvent, error) {
	return []sdk.DataEvent{{EventType: "bought", Data: map[string]any{"what": string(payload)}}}, nil
}

func (shop) OAuthAuthorize(_ context.Context, state string) (string, error) {
	return "https://example.com/?state=" + state, nil
}

func (shop) OAuthCallback(_ context.Context, state, code string) (any, error) {
	return map[string]string{"access_token": state + code}, nil
}

func started(t *testing.T, host *plugintest.Host) *plugintest.Plugin {
	return plugintest.Start(t, shop{}, host, map[string]any{"name": "corner", "open": []int{8, 18}})
}

func TestEveryFunctionOfAPlugin(t *testing.T) {
	host := plugintest.NewHost()
	p := started(t, host)
	if p.IsReady() {
		t.Error("it is ready too early")
	}
	if err := p.Bootstrap(); err != nil || !p.IsReady() {
		t.Error(err)
	}
	who := sdk.Context{UserID: "u", Platform: "slack", FormID: "f", ChannelID: "c"}
	if said, err := p.Command(who, "hi"); err != nil || said.Type != "TextMsg" || said.Text != `u on slack says "hi"` {
		t.Errorf("%+v, %v", said, err)
	}
	if said, err := p.Command(sdk.Context{Raw: json.RawMessage(`{"AsUser":"raw"}`)}, nil); err != nil || said.Text != `raw on  says null` {
		t.Errorf("%+v, %v", said, err)
	}
	if form, err := p.Form(who, map[string]string{"a": "b"}); err != nil || string(form.JSON) != `{"_type":"InfoMsg","title":"f","model":{"a":"b"}}` {
		t.Errorf("%s, %v", form.JSON, err)
	}
	if said, err := p.Input(who, map[string]any{"n": 1}, true); err != nil || said.Text != "c1true" {
		t.Errorf("%+v, %v", said, err)
	}
	if rules, err := p.Rules(); err != nil || string(rules) != `["rule"]` {
		t.Errorf("%s, %v", rules, err)
	}
	if help, err := p.Help(); err != nil || len(help["shop"]) != 1 {
		t.Errorf("%v, %v", help, err)
	}
	if events, err := p.ConvertWebhook([]byte("tea")); err != nil || len(events) != 1 || events[0].Data["what"] != "tea" {
		t.Errorf("%v, %v", events, err)
	}
	if address, err := p.OAuthAuthorize("s"); err != nil || address != "https://example.com/?state=s" {
		t.Errorf("%s, %v", address, err)
	}
	if token, err := p.OAuthCallback("s", "c"); err != nil || token["access_token"] != "sc" {
		t.Errorf("%v, %v", token, err)
	}
	if _, err := p.Call("nonsense", nil); err == nil {
		t.Error("a function that does not exist was called")
	}
	if records := host.Records(); len(records) != 2 || records[0].Fields["who"] != "u" {
		t.Errorf("%v", records)
	}
}

func TestAPluginThatFails(t *testing.T) {
	if _, err := plugintest.TryStart(t, shop{}, plugintest.NewHost(), nil); err == nil || err.Error() != "a config is needed" {
		t.Error(err)
	}
	host := plugintest.NewHost()
	p := started(t, host)
	if _, err := p.Command(sdk.Context{}, "panic"); err == nil || err.Error() != "the plugin panicked in command: oh no" {
		t.Error(err)
	}
	if records := host.Records(); len(records) != 1 || !strings.Contains(records[0].Fields["stack"], "shop.Command") {
		t.Error(records)
	}
	if _, err := p.Invoke("buy", nil); err == nil || !strings.HasPrefix(err.Error(), `no operation "buy"`) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var refused *sdk.HostError
	if _, err := p.In(ctx).Command(sdk.Context{}, "wait"); !errors.Is(err, context.Canceled) || !errors.As(err, &refused) || refused.Function != "get_config" {
		t.Error(err)
	}
}

func TestTheHostKeepsWhatItIsAsked(t *testing.T) {
	host := plugintest.NewHost()
	started(t, host)
	ctx := t.Context()
	for key, want := range map[string]string{"name": "corner", "open": "[8,18]", "missing": ""} {
		if got, err := host.GetConfig(ctx, key); err != nil || got != want {
			t.Errorf("%s: %s, %v", key, got, err)
		}
	}
	value := []byte("v")
	if err := errors.Join(host.KVSet(ctx, "b", value), host.KVSet(ctx, "a", nil), host.KVDelete(ctx, "none")); err != nil {
		t.Error(err)
	}
	value[0] = 'x'
	if got, found, err := host.KVGet(ctx, "b"); string(got) != "v" || !found || err != nil {
		t.Errorf("%s, %v, %v", got, found, err)
	}
	if got, found, err := host.KVGet(ctx, "a"); got == nil || len(got) != 0 || !found || err != nil {
		t.Errorf("an empty value: %v, %v, %v", got, found, err)
	}
	if keys := host.Keys(); !slices.Equal(keys, []string{"a", "b"}) {
		t.Error(keys)
	}
	if err := host.KVDelete(ctx, "b"); err != nil {
		t.Error(err)
	}
	if _, found := host.Get("b"); found {
		t.Error("it is still there")
	}
	if err := host.EmitEvent(ctx, sdk.DataEvent{EventType: "e", Data: map[string]any{"bad": make(chan int)}}); err == nil {
		t.Error("an event that is not JSON was taken")
	}
	if err := host.EmitEvent(ctx, sdk.DataEvent{EventType: "e", Data: map[string]any{"n": 1}}); err != nil || host.Events()[0].Data["n"] != 1.0 {
		t.Errorf("%v, %v", err, host.Events())
	}
}

func TestEachHostFunctionCanFail(t *testing.T) {
	host := plugintest.NewHost()
	host.HandleFunc("example.com/", func(http.ResponseWriter, *http.Request) {})
	ctx := t.Context()
	for function, ask := range map[string]func() error{
		"get_config": func() error { _, err := host.GetConfig(ctx, "k"); return err },
		"kv_get":     func() error { _, _, err := host.KVGet(ctx, "k"); return err },
		"kv_set":     func() error { return host.KVSet(ctx, "k", nil) },
		"kv_delete":  func() error { return host.KVDelete(ctx, "k") },
		"http_request": func() error {
			_, err := host.HTTPRequest(ctx, &sdk.HTTPRequest{URL: "https://example.com/"})
			return err
		},
		"emit_event": func() error { return host.EmitEvent(ctx, sdk.DataEvent{}) },
	} {
		if err := ask(); err != nil {
			t.Errorf("%s: %v", function, err)
		}
		host.Fail(function, "not today")
		var refused *sdk.HostError
		if err := ask(); !errors.As(err, &refused) || refused.Function != function || refused.Message != "not today" {
			t.Errorf("%s: %v", function, err)
		}
		host.Fail(function, "")
		if err := ask(); err != nil {
			t.Errorf("%s: %v", function, err)
		}
	}
}

func TestRequestsGoToTheirHandlersAndNowhereElse(t *testing.T) {
	host := plugintest.NewHost()
	host.HandleFunc("GET https://api.example.com/items/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s", r.PathValue("id"), r.Header.Get("Accept"))
	})
	ctx := t.Context()
	got, err := host.HTTPRequest(ctx, &sdk.HTTPRequest{URL: "https://api.example.com:8443/items/7?x=1", Headers: map[string]string{"Accept": "a"}})
	if err != nil || got.Status != 418 || string(got.Body) != "7 a" || got.Headers["Content-Type"] != "text/plain" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, denied := range []sdk.HTTPRequest{
		{URL: "https://api.example.com/"}, {Method: "POST", URL: "https://api.example.com/items/7"}, {URL: "https://example.com/items/7"},
		{URL: "/items/7"}, {URL: "ftp://api.example.com/items/7"}, {URL: "https://a b/"}, {Method: "B AD", URL: "https://api.example.com/items/7"},
	} {
		var refused *sdk.HostError
		if got, err := host.HTTPRequest(ctx, &denied); !errors.As(err, &refused) {
			t.Errorf("%+v: %+v, %v", denied, got, err)
		}
	}
	if requests := host.Requests(); len(requests) != 8 || requests[0].Method != "GET" || requests[2].Method != "POST" {
		t.Errorf("%+v", requests)
	}
}
