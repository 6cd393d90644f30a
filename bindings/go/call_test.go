//go:build cgo && linux

package flowplug

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestAPluginFromItsManifestToItsEnd(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		ctx := context.Background()
		h := newTestHost(t, WithHostAPI(&recorder{}))
		r := h.NewRunner("org/life")
		if r.State() != StateLoading || r.Identity() != "org/life" {
			t.Error(r.State())
		}
		if _, err := r.Call(ctx, "command", nil); !errors.Is(err, ErrInvalidState) {
			t.Error(err)
		}
		m := manifestOf(t, fixture)
		info, err := r.Load(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != "fixture" || info.Identity != "org/life" || info.Runtime != m.Runtime || info.ConfigSchema != nil {
			t.Errorf("%+v", info)
		}
		if _, err := r.Load(ctx, m); !errors.Is(err, ErrInvalidState) {
			t.Error(err)
		}
		if _, err := r.Call(ctx, "command", do(`{"do":"echo"}`)); !errors.Is(err, ErrInvalidState) {
			t.Error(err)
		}
		if err := r.Start(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if health, err := r.Health(ctx); err != nil || !health.Ready || health.Uptime <= 0 || r.State() != StateRunning {
			t.Errorf("%+v %v %v", health, err, r.State())
		}
		if got := called(t, r, do(`{"do":"echo","text":"ä"}`)); !strings.Contains(got, "ä") {
			t.Error(got)
		}
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := r.Stop(ctx); err != nil || r.State() != StateStopped {
			t.Errorf("%v %v", err, r.State())
		}
		if _, err := r.Call(ctx, "command", nil); !errors.Is(err, ErrInvalidState) {
			t.Error(err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := r.Health(ctx); !errors.Is(err, ErrInvalidState) {
			t.Error(err)
		}
	})
}

func TestAFailureSaysWhoseItIs(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		ctx := context.Background()
		r := started(t, newTestHost(t, WithHostAPI(&recorder{})), "org/bad", manifestOf(t, fixture), "")
		_, err := r.Call(ctx, "command", do(`{"do":"error","text":"no tea"}`))
		var e *Error
		if !errors.Is(err, ErrPlugin) || !errors.As(err, &e) || e.PluginMessage != "no tea" || e.Plugin != "org/bad" || e.Function != "command" {
			t.Errorf("%+v", err)
		}
		if _, err := r.Call(ctx, "no_such_function", nil); !errors.Is(err, ErrUnknownFunction) {
			t.Error(err)
		}
		if _, err := r.Function("no_such_function"); !errors.Is(err, ErrUnknownFunction) {
			t.Error(err)
		}
	})
}

func TestAPluginThatCannotBeLoadedOrStarted(t *testing.T) {
	ctx := context.Background()
	strict, err := NewHost(WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	m := manifestOf(t, wasmFixture)
	var e *Error
	if _, err := strict.NewRunner("x").Load(ctx, m); !errors.Is(err, ErrPermissionDenied) || !errors.As(err, &e) || e.Plugin != "x" {
		t.Errorf("past the policy: %v", err)
	}
	granted := strict.NewRunner("x", WithRunnerPolicy(map[string]any{"preset": "trusted"}))
	if _, err := granted.Load(ctx, m); err != nil {
		t.Errorf("a policy of its own: %v", err)
	}
	if err := granted.Start(ctx, json.RawMessage(`{"fail":"not today"}`)); !errors.Is(err, ErrStartFailed) || !errors.As(err, &e) || e.PluginMessage != "not today" {
		t.Errorf("%v", err)
	}
	h := newTestHost(t, WithLogger(quiet))
	gone := *m
	gone.SetBaseDir(t.TempDir())
	if _, err := h.NewRunner("x").Load(ctx, &gone); !errors.Is(err, ErrLoadFailed) {
		t.Errorf("no artifact: %v", err)
	}
	if _, err := h.NewRunner("x").Load(ctx, nil); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("no manifest: %v", err)
	}
	if _, err := h.NewRunner("../x").Load(ctx, m); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("a bad identity: %v", err)
	}
	if _, err := NewHost(WithPolicy("generous")); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("a policy that is none: %v", err)
	}
}

func TestTheManifestsTimeoutIsNotTheCallers(t *testing.T) {
	m := manifestOf(t, wasmFixture)
	m.Wasm.Permissions.Execution.Timeout = "50ms" // changed in Go: what is loaded is what Go has
	r := started(t, newTestHost(t, WithLogger(quiet)), "slow", m, "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := r.Call(ctx, "command", do(`{"do":"spin"}`))
	if !errors.Is(err, ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if got := called(t, r, do(`{"do":"echo"}`)); !strings.Contains(got, "echo") {
		t.Error(got)
	}
}

func TestTheCallersContextEndsTheCall(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		api := &recorder{}
		r := started(t, newTestHost(t, WithHostAPI(api), WithLogger(quiet)), "ends", manifestOf(t, fixture), "")
		long := do(`{"do":"sleep","ms":60000}`)

		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err := r.Call(ctx, "command", long); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
			t.Errorf("deadline: %v", err)
		}
		if _, err := r.Call(ctx, "command", long); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that had ended: %v", err)
		}

		ctx, cancel = context.WithCancel(context.Background())
		defer cancel()
		failed := endless(ctx, t, r, api, fixture)
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancel: %v", err)
		}
		if got := called(t, r, do(`{"do":"echo"}`)); !strings.Contains(got, "echo") {
			t.Error(got)
		}
	})
}

func TestStopEndsWhatDoesNotEnd(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		api := &recorder{}
		r := started(t, newTestHost(t, WithHostAPI(api), WithLogger(quiet)), "stops", manifestOf(t, fixture), "")
		failed := endless(t.Context(), t, r, api, fixture)
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // no time to drain
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
		// The caller's own context did not end: the stop is to blame.
		if err := <-failed; errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
	})
}

func TestClosingTheHostEndsEverything(t *testing.T) {
	api := &recorder{}
	h := newTestHost(t, WithHostAPI(api))
	r := started(t, h, "closing", manifestOf(t, wasmFixture), "")
	fn, err := r.Function("command")
	if err != nil {
		t.Fatal(err)
	}
	api.onGet = func(context.Context, string) ([]byte, error) {
		if err := h.Close(); !errors.Is(err, ErrInvalidState) {
			t.Errorf("Close from inside: %v", err)
		}
		return []byte("still here"), nil
	}
	if got := called(t, r, asks("kv_get", `{"key":"k"}`)); !strings.Contains(got, "still here") {
		t.Error(got)
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := fn.Call(context.Background(), do(`{"do":"echo"}`)); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
	if _, err := h.NewRunner("late").Load(context.Background(), manifestOf(t, wasmFixture)); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
	if err := fn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := fn.Call(context.Background(), nil); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
}

func TestAFunctionIsResolvedOnce(t *testing.T) {
	r := started(t, newTestHost(t, WithLogger(quiet)), "fast", manifestOf(t, "wat-hostile"), "")
	echo, err := r.Function("echo", TrustJSON())
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	// Larger than any buffer, then small again.
	for _, n := range []int{10, firstBuffer, 3 * firstBuffer, lastBuffer, 2 * lastBuffer, 0, 10} {
		want := `"` + strings.Repeat("x", n) + `"`
		for range 2 {
			got, err := echo.Call(context.Background(), json.RawMessage(want))
			if err != nil || string(got) != want {
				t.Fatalf("%d: %d bytes, %v", n, len(got), err)
			}
		}
	}
	for range 2 * maxCached {
		if _, err := r.Call(context.Background(), "fresh", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(*r.functions.Load()); n != 1 {
		t.Errorf("%d functions are cached", n)
	}
}

func TestManyGoroutinesShareAPlugin(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		r := started(t, newTestHost(t, WithHostAPI(&recorder{})), "many", manifestOf(t, fixture), "")
		var all sync.WaitGroup
		for i := range 8 {
			all.Add(1)
			go func() {
				defer all.Done()
				key := string(rune('a' + i))
				for range 100 {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					_, err := r.Call(ctx, "command", asks("kv_set", `{"key":"`+key+`","value":"`+key+`"}`))
					if err != nil {
						t.Error(err)
					}
					got, err := r.Call(ctx, "command", asks("kv_get", `{"key":"`+key+`"}`))
					cancel()
					if err != nil || string(got) != `{"value":"`+key+`"}` {
						t.Errorf("%s %v", got, err)
						return
					}
				}
			}()
		}
		all.Wait()
	})
}
