//go:build cgo && linux

package adapter_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/adapter"
)

// loaded loads the fixture, which is a module, an ability and a provider, in one of the runtimes.
func loaded(t *testing.T, name string) (*flowplug.Runner, *flowplug.PluginInfo) {
	t.Helper()
	folder := os.Getenv("FLOWPLUG_TEST_PLUGINS")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "target", "plugins")
	}
	manifest, err := flowplug.ReadManifest(filepath.Join(folder, name))
	if err != nil {
		t.Fatalf("%v (run `make plugins` in the repository's root, or set FLOWPLUG_TEST_PLUGINS)", err)
	}
	host, err := flowplug.NewHost(flowplug.WithPolicy("trusted"), flowplug.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	runner := host.NewRunner("fixture")
	info, err := runner.Load(t.Context(), manifest)
	if err != nil {
		t.Fatal(err)
	}
	return runner, info
}

func TestAPluginInEachOfItsFaces(t *testing.T) {
	for _, name := range []string{"fixture-wasm-go", "fixture-grpc-go"} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			runner, info := loaded(t, name)
			module := adapter.NewModule(runner)
			if module.IsReady(ctx) {
				t.Error("it is ready before it has started")
			}
			if err := errors.Join(module.Init(ctx, json.RawMessage(`{}`)), module.Bootstrap(ctx)); err != nil {
				t.Fatal(err)
			}
			if !module.IsReady(ctx) {
				t.Error("it is not ready")
			}
			who := adapter.Context{ID: "m1", Platform: "slack", UserID: "u1", ChannelID: "c1", FormID: "f1"}
			message, err := module.Command(ctx, who, map[string]string{"do": "context"})
			if values, ok := message.(adapter.KVMsg); err != nil || !ok || values["ID"] != "m1" || values["UserID"] != "u1" || values["ChannelID"] != "c1" {
				t.Errorf("%v, %v", message, err)
			}
			message, err = module.Form(ctx, who, map[string]string{"a": "b"})
			if form, ok := message.(adapter.InfoMsg); err != nil || !ok || form.Title != "slack" || string(form.Model) != `{"a":"b"}` {
				t.Errorf("%v, %v", message, err)
			}
			if _, err := module.Command(ctx, who, map[string]string{"do": "error", "text": "no tea"}); !errors.Is(err, flowplug.ErrPlugin) {
				t.Error(err)
			}
			if rules, err := module.Rules(ctx); err != nil || len(rules.All()) != 1 {
				t.Errorf("%v, %v", rules, err)
			}
			if help, err := module.Help(ctx); err != nil || len(help["fixture"]) != 2 {
				t.Errorf("%v, %v", help, err)
			}

			abilities := adapter.Abilities(runner, info.Provides)
			if len(abilities) != 1 {
				t.Fatal(abilities)
			}
			result, err := abilities[0].Invoke(ctx, "echo", map[string]int{"n": 7})
			var data struct{ N int }
			if err != nil || result.Capability != "echo" || result.Decode(&data) != nil || data.N != 7 {
				t.Errorf("%+v, %v", result, err)
			}

			provider := adapter.NewProvider(runner, *info.Provides.Provider)
			events, err := provider.ConvertWebhook(ctx, []byte("body"))
			if err != nil || len(events) != 1 || events[0].EventType != "fixture.webhook" || events[0].CreatedAt.IsZero() || string(events[0].Tags) != `{}` {
				t.Errorf("%+v, %v", events, err)
			}
			if _, err := provider.ConvertWebhook(ctx, nil); !errors.Is(err, flowplug.ErrPlugin) {
				t.Error(err)
			}
			if address, err := provider.AuthorizeURL(ctx, "s1"); err != nil || address != "https://login.example.com/authorize?state=s1" {
				t.Errorf("%s, %v", address, err)
			}
			if token, err := provider.Exchange(ctx, "s1", "c"); err != nil || token.AccessToken != "token-for-c" {
				t.Errorf("%v, %v", token, err)
			}
		})
	}
}
