// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/flowbot"
)

var fixtures = map[string]string{"wasm": "fixture-wasm-go", "grpc": "fixture-grpc-go"}

func TestARunnerNeedsAHostAnIdentityAndAManifest(t *testing.T) {
	host := newHost(t)
	wasm := &plugin.Manifest{Name: "x", Runtime: plugin.RuntimeWasm, Wasm: &plugin.WasmConfig{Module: "x.wasm"}}
	for name, c := range map[string]struct {
		host     *flowplug.Host
		identity string
		manifest *plugin.Manifest
		want     error
	}{
		"no host":         {nil, "x", wasm, flowplug.ErrInvalidArgument},
		"no identity":     {host, "", wasm, flowplug.ErrInvalidArgument},
		"no manifest":     {host, "x", nil, flowplug.ErrInvalidArgument},
		"no wasm section": {host, "x", &plugin.Manifest{Name: "x", Runtime: plugin.RuntimeWasm}, flowplug.ErrInvalidManifest},
		"no grpc section": {host, "x", &plugin.Manifest{Name: "x", Runtime: plugin.RuntimeGRPC}, flowplug.ErrInvalidManifest},
	} {
		if r, err := flowbot.NewRunner(c.host, c.identity, "", c.manifest, nil); r != nil || !is(err, c.want, types.ErrInvalidArgument) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	r, err := flowbot.NewRunner(host, "x", "", wasm, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), nil); !is(err, flowplug.ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := r.Load(t.Context(), wasm); !is(err, flowplug.ErrLoadFailed, types.ErrInternal) {
		t.Error(err)
	}
	if _, err := r.Call(t.Context(), "command", nil); !is(err, flowplug.ErrInvalidState, types.ErrUnavailable) {
		t.Error(err)
	}
	if health, err := r.Health(t.Context()); err != nil || health.Ready || health.LastError == "" {
		t.Errorf("%+v, %v", health, err)
	}
	if err := r.Start(t.Context(), nil); !is(err, flowplug.ErrInvalidState) {
		t.Error(err)
	}
}

func TestWithoutAHostAPIRecordsGoToSlog(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	folder := built(t, "template-wasm-go")
	manifest := manifestOf(t, folder)
	r, err := flowbot.NewRunner(newHost(t), "greeter", folder, manifest, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Start(t.Context(), json.RawMessage(`{"greeting":"Hello"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Stop(t.Context()); err != nil || !strings.Contains(log.String(), "plugin=greeter\n") {
		t.Error(err, log.String())
	}
}

func TestOneLifeInBothRuntimes(t *testing.T) {
	for runtime, name := range fixtures {
		t.Run(runtime, func(t *testing.T) {
			api := newServices()
			folder := built(t, name)
			manifest := manifestOf(t, folder)
			manifest.Name = "the-folder"
			r, err := flowbot.NewRunner(newHost(t), "fixture", folder, manifest, api)
			if err != nil {
				t.Fatal(err)
			}
			info, err := r.Load(t.Context(), manifest)
			if err != nil || info.Name != "the-folder" || info.Version != "0.1.0" || !info.Provides.Module || info.Provides.Provider.Name != "fixture" {
				t.Fatalf("%+v, %v", info, err)
			}
			if err := r.Start(t.Context(), json.RawMessage(`{"n":1}`)); err != nil {
				t.Fatal(err)
			}
			if health, err := r.Health(t.Context()); err != nil || !health.Ready || health.Uptime <= 0 {
				t.Errorf("%+v, %v", health, err)
			}
			// flowbot's module framework starts it again, with a config of its own.
			if err := r.Start(t.Context(), json.RawMessage(`{"enabled":true}`)); err != nil || !api.logged("started already") {
				t.Error(err, api.records)
			}
			if config, err := tell(r, `{"do":"config"}`); err != nil || config != `{"n":1}` {
				t.Error(config, err)
			}
			if _, err := tell(r, `{"do":"error","text":"no tea"}`); !is(err, flowplug.ErrPlugin, types.ErrProvider) || !strings.Contains(err.Error(), "no tea") {
				t.Error(err)
			}
			if _, err := r.Call(t.Context(), "no_such_function", nil); !is(err, flowplug.ErrUnknownFunction, types.ErrNotImplemented) {
				t.Error(err)
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := r.Call(gone, "help", nil); !is(err, context.Canceled) || is(err, types.ErrInternal) {
				t.Error(err)
			}
			for range 2 {
				if err := r.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if _, err := tell(r, `{"do":"echo"}`); !is(err, flowplug.ErrInvalidState, types.ErrUnavailable) {
				t.Error(err)
			}
			if err := r.Start(t.Context(), nil); !is(err, flowplug.ErrInvalidState) {
				t.Error(err)
			}
		})
	}
}

func TestAPluginThatDidNotStartStaysStoppedAndStopsNobody(t *testing.T) {
	for runtime, name := range fixtures {
		t.Run(runtime, func(t *testing.T) {
			api := newServices()
			r := loaded(t, newHost(t), "fixture", name, api)
			if err := r.Start(t.Context(), json.RawMessage(`{"fail":"no key"}`)); !is(err, flowplug.ErrStartFailed) || !strings.Contains(err.Error(), "no key") {
				t.Fatal(err)
			}
			if err := r.Start(t.Context(), json.RawMessage(`{"enabled":true}`)); err != nil || !api.logged("error the plugin stays stopped") || !api.logged("no key") {
				t.Error(err, api.records)
			}
			if answer, err := r.Call(t.Context(), "bootstrap", nil); err != nil || string(answer) != "null" {
				t.Errorf("%s, %v", answer, err)
			}
			if _, err := tell(r, `{"do":"echo"}`); !is(err, flowplug.ErrStartFailed) || !strings.Contains(err.Error(), "no key") {
				t.Error(err)
			}
			if health, err := r.Health(t.Context()); err != nil || health.Ready || !strings.Contains(health.LastError, "no key") {
				t.Error(health, err)
			}
			if err := r.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := tell(r, `{"do":"echo"}`); !is(err, flowplug.ErrInvalidState) {
				t.Error(err)
			}
		})
	}
}

func TestWhoWasFollowedHandsItsCallsOn(t *testing.T) {
	host, api := newHost(t), newServices()
	inside, over := make(chan struct{}), make(chan struct{})
	api.onSet = func() { close(inside); <-over }
	begun := func(name, config string) plugin.Runner {
		r := loaded(t, host, "fixture", name, api)
		if err := r.Start(t.Context(), json.RawMessage(config)); err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := begun(fixtures["wasm"], `{"n":1}`)
	second := begun(fixtures["grpc"], `{"n":2}`)
	if config, err := tell(first, `{"do":"config"}`); err != nil || config != `{"n":1}` {
		t.Error("before it is stopped it answers itself:", config, err)
	}
	// What is in flight when it is stopped it answers itself; what comes meanwhile its successor does.
	var both sync.WaitGroup
	both.Go(func() {
		if answer, err := tell(first, `{"do":"host","fn":"kv_set","args":{"key":"k","value":"v"}}`); err != nil || answer != `{"done":true}` {
			t.Error(answer, err)
		}
	})
	<-inside
	both.Go(func() {
		if err := first.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	until(t, "the successor's answer", func() bool {
		config, err := tell(first, `{"do":"config"}`)
		if err != nil {
			t.Fatal(err)
		}
		return config == `{"n":2}`
	})
	close(over)
	both.Wait()
	third := begun(fixtures["wasm"], `{"n":3}`)
	if config, err := tell(first, `{"do":"config"}`); err != nil || config != `{"n":3}` {
		t.Error(config, err)
	}
	if err := second.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for _, r := range []plugin.Runner{first, second, third} {
		if config, err := tell(r, `{"do":"config"}`); err != nil || config != `{"n":3}` {
			t.Error(config, err)
		}
		if health, err := r.Health(t.Context()); err != nil || !health.Ready {
			t.Error(health, err)
		}
	}
	// A successor that does not start changes nothing.
	failed := loaded(t, host, "fixture", fixtures["wasm"], api)
	if err := failed.Start(t.Context(), json.RawMessage(`{"fail":"no"}`)); err == nil {
		t.Error("it started")
	}
	if config, err := tell(first, `{"do":"config"}`); err != nil || config != `{"n":3}` {
		t.Error(config, err)
	}
	if err := third.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	// Unloaded: whoever comes later under the same identity is somebody else.
	begun(fixtures["wasm"], `{"n":4}`)
	for _, r := range []plugin.Runner{first, second, third} {
		if _, err := tell(r, `{"do":"config"}`); !is(err, flowplug.ErrInvalidState) {
			t.Error(err)
		}
	}
}

func TestRunnersOfOtherHostsAndIdentitiesAreNoSuccessors(t *testing.T) {
	one, other := newHost(t), newHost(t)
	first := loaded(t, one, "fixture", fixtures["wasm"], nil)
	for _, r := range []plugin.Runner{first, loaded(t, other, "fixture", fixtures["wasm"], nil), loaded(t, one, "another", fixtures["wasm"], nil)} {
		if err := r.Start(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := tell(first, `{"do":"echo"}`); !is(err, flowplug.ErrInvalidState) {
		t.Error(err)
	}
}

func TestWhatIsGranted(t *testing.T) {
	folder := built(t, fixtures["grpc"])
	host := newHost(t) // whose policy is strict
	load := func(opts ...flowplug.RunnerOption) error {
		r, err := flowbot.NewRunner(host, "fixture", folder, manifestOf(t, folder), nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Load(t.Context(), manifestOf(t, folder))
		return errors.Join(err, r.Stop(t.Context()))
	}
	if err := load(); err != nil {
		t.Error("as flowbot grants it:", err)
	}
	if err := load(flowplug.WithRunnerPolicy(nil)); !is(err, flowplug.ErrPermissionDenied, types.ErrForbidden) {
		t.Error("as the host's policy says:", err)
	}
}

func TestWherePathsLeadAndWhatTheFileSaysBeyondFlowbot(t *testing.T) {
	folder := built(t, "bookmark-grpc-go")
	manifest := manifestOf(t, folder)
	start := func(baseDir string) (plugin.Runner, *services, error) {
		api := newServices()
		r, err := flowbot.NewRunner(newHost(t), "bookmarks", baseDir, manifest, api)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.Load(t.Context(), manifest); err != nil {
			return nil, nil, err
		}
		if err := r.Start(t.Context(), json.RawMessage(`{"user_agent":"x"}`)); err != nil {
			t.Fatal(err)
		}
		return r, api, nil
	}
	create := json.RawMessage(`{"operation":"create","params":{"url":"http://127.0.0.1:1/"}}`)
	if _, _, err := start(""); !is(err, flowplug.ErrLoadFailed) {
		t.Error("the binary is not in the working directory:", err)
	}
	r, api, err := start(folder)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := r.Call(t.Context(), "ability_call", create); err != nil || !strings.Contains(string(answer), "A page") {
		t.Errorf("%s, %v: grpc.permissions stands in the folder's plugin.yaml", answer, err)
	}
	if len(api.asked) != 1 || api.asked[0].Method != "GET" || api.asked[0].Headers["User-Agent"] != "flowbot" {
		t.Errorf("%+v", api.asked)
	}
	t.Chdir(filepath.Dir(folder))
	manifest.GRPC.Binary = "./" + filepath.Base(folder) + "/bookmark"
	if r, _, err = start(""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Call(t.Context(), "ability_call", create); !is(err, flowplug.ErrPlugin) {
		t.Error("the plugin.yaml beside it is another one's: it names another artifact:", err)
	}
	t.Chdir(folder)
	manifest.GRPC.Binary = "./bookmark"
	if r, _, err = start(""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Call(t.Context(), "ability_call", create); err != nil {
		t.Error("the plugin.yaml lies beside it:", err)
	}
	// A file that the library refuses is not passed over.
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "plugin.yaml"), []byte("name: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := start(broken); !is(err, flowplug.ErrInvalidManifest, types.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestWhatAPluginAsksFlowbotAnswers(t *testing.T) {
	for runtime, name := range fixtures {
		t.Run(runtime, func(t *testing.T) {
			api := newServices()
			r := loaded(t, newHost(t), "fixture", name, api)
			if err := r.Start(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			ask := func(fn, args string) (string, error) { return tell(r, `{"do":"host","fn":"`+fn+`","args":`+args+`}`) }
			if _, err := ask("kv_set", `{"key":"k","value":"v"}`); err != nil || string(api.kv["plugin:fixture:k"]) != "v" {
				t.Error(err, api.kv)
			}
			if missing, err := ask("kv_get", `{"key":"none"}`); err != nil || missing != `{"missing":true}` {
				t.Error(missing, err)
			}
			if _, err := ask("emit_event", `{"event_type":"seen","source":"s","data":{"n":1}}`); err != nil || len(api.events) != 1 ||
				api.events[0].EventType != "seen" || api.events[0].Data["n"] != 1.0 || api.events[0].Tags == nil {
				t.Errorf("%v, %+v", err, api.events)
			}
			api.mu.Lock()
			api.failing = types.ErrForbidden
			api.mu.Unlock()
			if told, err := ask("kv_set", `{"key":"k","value":"v"}`); err != nil || !strings.Contains(told, "forbidden") {
				t.Error(told, err)
			}
		})
	}
}
