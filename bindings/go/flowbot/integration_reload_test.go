// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux && flowbot_guide

package flowbot_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/flowline-io/flowbot/pkg/module"
	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// parsed is the manifest that lies in a plugin's folder, as flowbot's local source hands it on.
func parsed(t *testing.T, identity string) *plugin.Manifest {
	t.Helper()
	m := manifestOf(t, filepath.Join("plugins", identity))
	m.Name = identity
	return m
}

func TestReloadUnderLoad(t *testing.T) {
	wasm, grpc := built(t, fixtures["wasm"]), built(t, fixtures["grpc"])
	s := serve(t, map[string]string{"fixture": fixtures["wasm"]}, nil)
	framework(t)
	var calls atomic.Int64
	var load sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		load.Go(func() {
			m, provider := module.List()["fixture"], s.instance(t, "fixture").Adapters.Provider
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				result, err := invoke(t, "echo", "echo", map[string]any{"n": n})
				if err != nil || fmt.Sprint(result.Data) != fmt.Sprintf("map[n:%d]", n) {
					t.Errorf("ability: %+v, %v", result, err)
					return
				}
				if _, err := m.Command(who, map[string]any{"do": "echo", "n": n}); err != nil {
					t.Error("module:", err)
					return
				}
				if provider.GetAuthorizeURL("s") == "" {
					t.Error("provider: no address")
					return
				}
				calls.Add(3)
			}
		})
	}
	reloads := 0
	for _, to := range []string{grpc, grpc, wasm, wasm, grpc} {
		before := calls.Load()
		until(t, "calls between the reloads", func() bool { return calls.Load() > before+60 || t.Failed() })
		old := s.instance(t, "fixture").Runner
		layOut(t, to, "fixture")
		reloads++
		if err := s.ReloadPlugin(t.Context(), "fixture", parsed(t, "fixture"), json.RawMessage(fmt.Sprintf(`{"n":%d}`, reloads))); err != nil {
			t.Fatal(err)
		}
		// What flowbot has bound to the old runner is on the new plugin.
		if config, err := tell(old, `{"do":"config"}`); err != nil || config != fmt.Sprintf(`{"n":%d}`, reloads) {
			t.Error(config, err)
		}
	}
	close(over)
	load.Wait()
	t.Logf("%d reloads under %d calls, none refused", reloads, calls.Load())
	// The ability goes to the process that is there now: without it there is no answer, and with its successor there is one.
	pid := processOf(t, s.instance(t, "fixture").Runner)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another process", func() bool {
		_, err := invoke(t, "echo", "echo", map[string]any{"n": 1})
		if err != nil && !is(err, flowplug.ErrUnavailable, types.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	if again := processOf(t, s.instance(t, "fixture").Runner); again == pid {
		t.Error("it is the same process")
	}
}

// processOf is the process that the runner's calls go to.
func processOf(t *testing.T, r plugin.Runner) int {
	t.Helper()
	answer, err := tell(r, `{"do":"pid"}`)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Trim(answer, `{"pid": }`))
	if err != nil || pid <= 1 {
		t.Fatal(answer, err)
	}
	return pid
}

func TestAReloadThatFailsLeavesTheOldOne(t *testing.T) {
	for runtime, name := range fixtures {
		t.Run(runtime, func(t *testing.T) {
			s := serve(t, map[string]string{"fixture": name}, map[string]json.RawMessage{"fixture": json.RawMessage(`{"n":1}`)})
			framework(t)
			if err := s.ReloadPlugin(t.Context(), "fixture", parsed(t, "fixture"), json.RawMessage(`{"fail":"no key"}`)); !is(err, flowplug.ErrStartFailed) {
				t.Error(err)
			}
			gone := parsed(t, "fixture")
			if gone.Wasm != nil {
				gone.Wasm.Module = "nothing"
			} else {
				gone.GRPC.Binary = "plugins/nothing"
			}
			if err := s.ReloadPlugin(t.Context(), "fixture", gone, nil); !is(err, flowplug.ErrLoadFailed) {
				t.Error(err)
			}
			message, err := module.List()["fixture"].Command(who, map[string]string{"do": "config"})
			if config, ok := message.(types.KVMsg); err != nil || !ok || config["n"] != 1.0 {
				t.Errorf("%#v, %v", message, err)
			}
			if _, err := invoke(t, "echo", "echo", map[string]any{"n": 1}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPluginsThatFailUnderFlowbot(t *testing.T) {
	s := serve(t, map[string]string{"a-broken": fixtures["wasm"], "fixture": fixtures["grpc"]}, nil)
	framework(t)
	// Load: the module is not there.
	missing := parsed(t, "a-broken")
	missing.Wasm.Module = "plugins/a-broken/none.wasm"
	if err := s.ReloadPlugin(t.Context(), "a-broken", missing, nil); !is(err, flowplug.ErrLoadFailed) || !strings.Contains(err.Error(), "none.wasm") {
		t.Error(err)
	}
	// Call: an error of the plugin's, a panic, an end.
	broken := module.List()["a-broken"]
	for what, kind := range map[string]error{`error`: flowplug.ErrPlugin, `panic`: flowplug.ErrPlugin, `crash`: flowplug.ErrTrap} {
		if _, err := broken.Command(who, map[string]string{"do": what, "text": "oh"}); !is(err, kind, types.ErrProvider) {
			t.Errorf("%s: %v", what, err)
		}
	}
	process := module.List()["fixture"]
	if _, err := process.Command(who, map[string]string{"do": "crash"}); !is(err, flowplug.ErrUnavailable, types.ErrUnavailable) || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	until(t, "the process, started again", func() bool {
		_, err := process.Command(who, map[string]string{"do": "pid"})
		return err == nil
	})
	if _, err := broken.Command(who, map[string]string{"do": "echo"}); err != nil {
		t.Error(err)
	}
}

func TestAPluginThatDoesNotStartUnderFlowbot(t *testing.T) {
	for runtime, name := range fixtures {
		t.Run(runtime, func(t *testing.T) {
			other := map[string]string{"wasm": "grpc", "grpc": "wasm"}[runtime]
			s := serve(t, map[string]string{"a-broken": name, "fixture": fixtures[other]}, map[string]json.RawMessage{"a-broken": json.RawMessage(`{"fail":"no key"}`)})
			if len(s.List()) != 1 || !strings.Contains(s.log.String(), "no key") {
				t.Error("the other one runs, and the log says why this one does not: ", s.log)
			}
			// flowbot keeps the module that did not start, and its framework starts it again, with another config: that must not end the server.
			defer module.Unregister("a-broken")
			framework(t)
			if !s.api.logged("stays stopped") {
				t.Error("the second start is not in the log: ", s.api.records)
			}
			if _, err := module.List()["a-broken"].Command(who, map[string]string{"do": "echo"}); !is(err, flowplug.ErrStartFailed) || !strings.Contains(err.Error(), "no key") {
				t.Error(err)
			}
			if message, err := s.instance(t, "fixture").Adapters.Module.Command(who, map[string]string{"do": "echo"}); err != nil {
				t.Error(message, err)
			}
		})
	}
}
