// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux && flowbot_guide

package flowbot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flowline-io/flowbot/pkg/capability"
	"github.com/flowline-io/flowbot/pkg/hub"
	"github.com/flowline-io/flowbot/pkg/module"
	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/plugin/manager"
	"github.com/flowline-io/flowbot/pkg/providers"
	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/rs/zerolog"
)

// These tests run with flowbot's packages, changed as docs/flowbot.md says: see .ci/check-flowbot.

// server is as much of flowbot as plugins meet.
type server struct {
	*manager.PluginManager
	api *services
	log *bytes.Buffer
}

// serve lays the plugins out in a working directory of its own, by identity and name of the build, and starts them in flowbot's order: the manager loads
// and starts each, then the module framework starts each again.
func serve(t *testing.T, plugins map[string]string, configs map[string]json.RawMessage) *server {
	t.Helper()
	laidOut := map[string]string{}
	for identity, name := range plugins {
		laidOut[identity] = built(t, name)
	}
	t.Chdir(t.TempDir())
	for identity, from := range laidOut {
		layOut(t, from, identity)
	}
	api := newServices()
	s := start(t, api, configs)
	s.api = api
	return s
}

// start starts what is in the folder plugins of the working directory.
func start(t *testing.T, api plugin.HostAPI, configs map[string]json.RawMessage) *server {
	t.Helper()
	s := &server{log: new(bytes.Buffer)}
	if err := manager.OpenHost(api, flowplug.WithCacheDir(cache)); err != nil {
		t.Fatal(err)
	}
	s.PluginManager = manager.NewPluginManager(&manager.PluginConfig{
		Enabled: true, Sources: []manager.SourceConfig{{Type: "local", Path: "plugins"}}, DrainTimeout: 30 * time.Second,
	}, zerolog.New(s.log))
	t.Cleanup(func() {
		for _, instance := range s.List() {
			if err := s.UnloadPlugin(context.Background(), instance.Identity); err != nil {
				t.Error(err)
			}
		}
		if err := manager.CloseHost(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Init(t.Context(), configs); err != nil {
		t.Fatal(err)
	}
	return s
}

// framework is what flowbot does next.
func framework(t *testing.T) {
	t.Helper()
	if err := module.Init(json.RawMessage(`[]`)); err != nil {
		t.Fatal(err)
	}
	if err := module.Bootstrap(); err != nil {
		t.Fatal(err)
	}
}

// layOut copies a plugin's folder to plugins/IDENTITY, with paths against the working directory, as flowbot reads them.
func layOut(t *testing.T, from, identity string) {
	t.Helper()
	to := filepath.Join("plugins", identity)
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(manifestText(t, from), "./", to+"/")
	if err := os.WriteFile(filepath.Join(to, "plugin.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *server) instance(t *testing.T, identity string) *manager.PluginInstance {
	t.Helper()
	for _, instance := range s.List() {
		if instance.Identity == identity {
			return instance
		}
	}
	t.Fatalf("%s does not run:\n%s", identity, s.log)
	return nil
}

var who = types.Context{Id: "m1", Platform: "slack", Topic: "c1", AsUser: "u1", FormId: "f1"}

func invoke(t *testing.T, capabilityType, operation string, params map[string]any) (*capability.InvokeResult, error) {
	t.Helper()
	return capability.Invoke(t.Context(), hub.CapabilityType(capabilityType), operation, params)
}

func TestBookmarksUnderFlowbot(t *testing.T) {
	for runtime, name := range map[string]string{"wasm": "bookmark-wasm-go", "grpc": "bookmark-grpc-go"} {
		t.Run(runtime, func(t *testing.T) {
			s := serve(t, map[string]string{"bookmarks": name}, map[string]json.RawMessage{"bookmarks": json.RawMessage(`{"user_agent":"flowbot"}`)})
			framework(t)
			m := module.List()["bookmarks"]
			if m == nil || !m.IsReady() {
				t.Fatal("the module is not there, or not ready: ", s.log)
			}
			s.api.kv["plugin:bookmarks:index"] = []byte(`["1"]`)
			s.api.kv["plugin:bookmarks:bookmark/1"] = []byte(`{"id":"1","url":"http://example.com/","title":"An example"}`)
			message, err := m.Command(who, "list")
			if text, ok := message.(types.TextMsg); err != nil || !ok || !strings.HasPrefix(text.Text, "1 bookmark(s) saved") {
				t.Errorf("%#v, %v", message, err)
			}
			if help, err := m.Help(); err != nil || len(help["bookmark"]) != 3 {
				t.Error(help, err)
			}
			if _, err := m.Form(who, types.KV{"a": "b"}); !is(err, flowplug.ErrPlugin, types.ErrProvider) {
				t.Error(err)
			}
			result, err := invoke(t, "bookmark", "list", map[string]any{})
			if err != nil || result.Text != "1 bookmark(s)" || result.Operation != "list" {
				t.Errorf("%+v, %v", result, err)
			}
			if _, err := invoke(t, "bookmark", "get", map[string]any{"id": "2"}); !is(err, flowplug.ErrPlugin) {
				t.Error(err)
			}
			created(t, s)
			if err := s.UnloadPlugin(t.Context(), "bookmarks"); err != nil {
				t.Error(err)
			}
			if _, err := invoke(t, "bookmark", "list", nil); err == nil || module.List()["bookmarks"] != nil || len(s.List()) != 0 {
				t.Error("it is still there")
			}
			if _, err := m.Command(who, "list"); !is(err, flowplug.ErrInvalidState, types.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
}

// The guide's own plugin, built and written by its commands in the copy of flowbot, as the module framework and an ability find it.
func TestThePluginOfTheGuide(t *testing.T) {
	t.Chdir(os.Getenv("FLOWPLUG_GUIDE"))
	s := start(t, nil, map[string]json.RawMessage{"greeter": json.RawMessage(`{"greeting":"Hello"}`)})
	s.instance(t, "greeter")
	framework(t)
	if message, err := module.List()["greeter"].Command(who, "hello"); err != nil || message != (types.TextMsg{Text: "Hello, u1 (1)"}) {
		t.Errorf("%#v, %v, %s", message, err, s.log)
	}
	if result, err := invoke(t, "greeting", "greet", map[string]any{"name": "Ada"}); err != nil || result.Text != "Hello, Ada (1)" {
		t.Errorf("%+v, %v", result, err)
	}
}

// created has a bookmark made, for which the plugin asks flowbot for a page, for the store, and to hand an event on.
func created(t *testing.T, s *server) {
	t.Helper()
	result, err := invoke(t, "bookmark", "create", map[string]any{"url": "http://127.0.0.1:1/"})
	if err != nil || len(result.Events) != 1 || !strings.Contains(result.Text, "A page") {
		t.Errorf("%+v, %v", result, err)
	}
	if len(s.api.events) != 1 || s.api.events[0].EventType != "bookmark.created" || s.api.events[0].Data["title"] != "A page" {
		t.Errorf("%+v", s.api.events)
	}
	if !s.api.logged("bookmark created") || len(s.api.asked) != 1 {
		t.Error(s.api.records, s.api.asked)
	}
}

func TestModuleAbilityAndProviderUnderFlowbot(t *testing.T) {
	for runtime, name := range fixtures {
		t.Run(runtime, func(t *testing.T) {
			s := serve(t, map[string]string{"fixture": name}, map[string]json.RawMessage{"fixture": json.RawMessage(`{"n":1}`)})
			framework(t)
			instance := s.instance(t, "fixture")
			m := instance.Adapters.Module
			if !s.api.logged("started already") {
				t.Error("the second start is not in the log: ", s.api.records)
			}
			message, err := m.Command(who, map[string]string{"do": "config"})
			if config, ok := message.(types.KVMsg); err != nil || !ok || config["n"] != 1.0 || config["enabled"] != nil {
				t.Errorf("%#v, %v", message, err)
			}
			message, err = m.Command(who, map[string]string{"do": "context"})
			if read, ok := message.(types.KVMsg); err != nil || !ok || read["ID"] != "m1" || read["UserID"] != "u1" || read["ChannelID"] != "c1" ||
				read["Topic"] != "c1" || read["Platform"] != "slack" || read["FormID"] != "f1" {
				t.Errorf("%#v, %v", message, err)
			}
			message, err = m.Form(who, types.KV{"a": "b", "n": "1"})
			if info, ok := message.(types.InfoMsg); err != nil || !ok || info.Title != "slack" || fmt.Sprint(info.Model) != "map[a:b n:1]" {
				t.Errorf("%#v, %v", message, err)
			}
			if rules := m.Rules(); len(rules) != 1 {
				t.Error(rules)
			}
			if help, err := m.Help(); err != nil || len(help["fixture"]) != 2 {
				t.Error(help, err)
			}
			result, err := invoke(t, "echo", "echo", map[string]any{"n": 7})
			if err != nil || result.Capability != "echo" || fmt.Sprint(result.Data) != "map[n:7]" {
				t.Errorf("%+v, %v", result, err)
			}
			events, err := instance.Adapters.Provider.WebhookConvert([]byte("body"))
			if err != nil || len(events) != 1 || events[0].EventType != "fixture.webhook" || events[0].Data["payload"] != "body" || events[0].CreatedAt.IsZero() {
				t.Errorf("%+v, %v", events, err)
			}
			if _, err := instance.Adapters.Provider.WebhookConvert(nil); !is(err, flowplug.ErrPlugin) {
				t.Error(err)
			}
			provider, err := providers.GetOAuthProvider("fixture")
			if err != nil {
				t.Fatal(err)
			}
			if address := provider.GetAuthorizeURL("s1"); address != "https://login.example.com/authorize?state=s1" {
				t.Error(address)
			}
			// flowbot's provider adapter has no way to this one.
			token, err := instance.Runner.Call(t.Context(), "oauth_callback", json.RawMessage(`{"state":"s1","code":"c"}`))
			if err != nil || !strings.Contains(string(token), "token-for-c") {
				t.Errorf("%s, %v", token, err)
			}
			if health, err := instance.Runner.Health(t.Context()); err != nil || !health.Ready {
				t.Error(health, err)
			}
			if err := s.UnloadPlugin(t.Context(), "fixture"); err != nil {
				t.Error(err)
			}
			if _, err := providers.GetOAuthProvider("fixture"); err == nil {
				t.Error("the provider is still there")
			}
		})
	}
}
