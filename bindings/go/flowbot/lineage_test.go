// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/flowbot"
)

// numbered loads and starts a plugin that answers its number.
func numbered(t *testing.T, host *flowplug.Host, n int) plugin.Runner {
	t.Helper()
	r := loaded(t, host, "fixture", fixtures["wasm"], nil)
	if err := r.Start(t.Context(), json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASuccessorThatGoesFirstLeavesThePlaceToWhoStillRuns(t *testing.T) {
	host := newHost(t)
	stop := func(r plugin.Runner) {
		t.Helper()
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	answers := func(want string, of ...plugin.Runner) {
		t.Helper()
		for i, r := range of {
			if config, err := tell(r, `{"do":"config"}`); err != nil || config != want {
				t.Errorf("the runner %d: %s, %v, and not %s", i+1, config, err, want)
			}
		}
	}
	first := numbered(t, host, 1)
	second := numbered(t, host, 2)
	stop(second)
	answers(`{"n":1}`, first, second)
	third := numbered(t, host, 3)
	stop(first)
	answers(`{"n":3}`, first, second, third)
	stop(second) // again
	fourth := numbered(t, host, 4)
	stop(third)
	answers(`{"n":4}`, first, second, third, fourth)
	stop(fourth)
	fifth := numbered(t, host, 5)
	stop(fourth)
	answers(`{"n":5}`, fifth)
	sixth := numbered(t, host, 6)
	stop(fifth)
	answers(`{"n":6}`, fifth, sixth)
	for _, r := range []plugin.Runner{first, second, third, fourth} {
		if _, err := tell(r, `{"do":"config"}`); !is(err, flowplug.ErrInvalidState) {
			t.Error("the lineage had ended:", err)
		}
	}
}

func TestAHostThatIsClosedAndItsRunnersThatNobodyStoppedAreGarbage(t *testing.T) {
	gone := make(chan string, 3)
	func() {
		host, err := flowplug.NewHost(flowplug.WithCacheDir(cache))
		if err != nil {
			t.Fatal(err)
		}
		api := newServices()
		r := loaded(t, host, "left", fixtures["wasm"], api)
		if err := r.Start(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		runtime.AddCleanup(host, func(what string) { gone <- what }, "host")
		runtime.AddCleanup(api, func(what string) { gone <- what }, "api")
		flowbot.WhenGone(r, func() { gone <- "runner" })
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	left := map[string]bool{"host": true, "api": true, "runner": true}
	until(t, "their end", func() bool {
		runtime.GC()
		for len(gone) > 0 {
			delete(left, <-gone)
		}
		return len(left) == 0 && !flowbot.Remembered("left")
	})
}

func TestAStopDoesNotWaitBehindAStartThatHangs(t *testing.T) {
	host := newHost(t)
	folder := built(t, "wat-init-loop")
	m := manifestOf(t, folder)
	m.Wasm.Permissions = &plugin.WasmPermissions{Execution: &plugin.ExecutionLimit{Timeout: "1h"}}
	r, err := flowbot.NewRunner(host, "hangs", folder, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	started, stopped := make(chan error, 1), make(chan error, 2)
	go func() { started <- r.Start(context.Background(), nil) }()
	until(t, "the plugin's init", func() bool {
		var text strings.Builder
		return host.Metrics(&text) == nil && strings.Contains(text.String(), `flowplug_instances{plugin="hangs",state="in_use"} 1`)
	})
	for range 2 {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			stopped <- r.Stop(ctx)
		}()
	}
	for what, end := range map[string]chan error{"Start": started, "Stop": stopped, "Stop, again": stopped} {
		select {
		case err := <-end:
			if (what == "Start") != (err != nil) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s did not end", what)
		}
	}
	if _, err := tell(r, `{"do":"echo"}`); !is(err, flowplug.ErrInvalidState) {
		t.Error(err)
	}
	if err := r.Start(t.Context(), nil); !is(err, flowplug.ErrInvalidState) {
		t.Error(err)
	}
	if flowbot.Remembered("hangs") {
		t.Error("it leads a place")
	}
}

func TestWhoIsStoppedWhileItStartsLeadsNobody(t *testing.T) {
	host := newHost(t)
	both := 0
	for range 100 {
		r := loaded(t, host, "brief", "wat-old-init", nil)
		var over sync.WaitGroup
		over.Go(func() {
			switch err := r.Start(t.Context(), nil); {
			case err == nil:
				both++
			case !is(err, flowplug.ErrInvalidState) && !is(err, flowplug.ErrCancelled):
				t.Error(err)
			}
		})
		over.Go(func() {
			if err := r.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
		over.Wait()
		if flowbot.Remembered("brief") {
			t.Fatal("it leads a place, and is stopped")
		}
	}
	t.Logf("%d of 100 had started", both)
}
