//go:build cgo && linux

package flowplug

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"
)

func TestAMethodMayCallPlugins(t *testing.T) {
	for name, elsewhere := range map[string]bool{"on its thread": false, "on another": true} {
		t.Run(name, func(t *testing.T) {
			api := &recorder{}
			h := newTestHost(t, WithHostAPI(api))
			m := manifestOf(t, wasmFixture)
			m.Wasm.Pool.WaitTimeout = "1h" // so that a wait for oneself would be seen
			a, b := started(t, h, "a", m, ""), started(t, h, "b", m, "")
			call := func(ctx context.Context, r *Runner, depth int) (got string, err error) {
				if !elsewhere {
					result, err := r.Call(ctx, "command", asks("kv_get", fmt.Sprintf(`{"key":"%d"}`, depth)))
					return string(result), err
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					result, failed := r.Call(ctx, "command", asks("kv_get", fmt.Sprintf(`{"key":"%d"}`, depth)))
					got, err = string(result), failed
				}()
				<-done
				return got, err
			}
			var deepest error
			api.onGet = func(ctx context.Context, key string) ([]byte, error) {
				var who string
				var depth int
				if _, err := fmt.Sscanf(key, "plugin:%1s:%d", &who, &depth); err != nil {
					return nil, err
				}
				other := a
				if who == "a" {
					other = b
				}
				got, err := call(ctx, other, depth+1)
				if err != nil {
					deepest = errors.Join(deepest, err)
					return []byte("the end"), nil
				}
				return []byte(got), nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if _, err := call(ctx, a, 0); err != nil {
				t.Error(err)
			}
			// Two plugins of two instances each: the fifth in the chain would wait for the first.
			if !errors.Is(deepest, ErrBusy) || errors.Is(deepest, context.DeadlineExceeded) {
				t.Errorf("%v", deepest)
			}
		})
	}
}

// A thousand calls of the Go plugin with callbacks; every third ends by its context in a callback, and every third by a deadline.
func TestAThousandCallsLeaveNothingBehind(t *testing.T) {
	before, holds := runtime.NumGoroutine(), registered.Load()
	func() {
		api := &recorder{}
		h, err := NewHost(WithPolicy("trusted"), WithHostAPI(api))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		r := started(t, h, "bookmarks", manifestOf(t, "bookmark-wasm-go"), `{"user_agent":"test"}`)
		defer r.Close()
		for i := range 1000 {
			ctx, cancel := context.WithCancel(context.Background())
			timed := ctx
			stop := func() {}
			api.set(func() { api.onGet = func(context.Context, string) ([]byte, error) { return []byte(`["a"]`), nil } })
			switch i % 3 {
			case 1:
				api.onGet = func(ctx context.Context, _ string) ([]byte, error) {
					cancel()
					<-ctx.Done()
					return nil, ctx.Err()
				}
			case 2:
				timed, stop = context.WithTimeout(ctx, time.Millisecond)
				api.onGet = func(ctx context.Context, _ string) ([]byte, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
			}
			_, err := r.Call(timed, "command", do(`{"text":"hello"}`))
			if want := [...]error{nil, context.Canceled, context.DeadlineExceeded}[i%3]; !errors.Is(err, want) {
				t.Fatalf("%d: %v, not %v", i, err, want)
			}
			stop()
			cancel()
		}
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	eventually(t, "handles, frames and goroutines to go", func() bool {
		return registered.Load() <= holds && inFlight() == 0 && runtime.NumGoroutine() <= before
	})
}

// A host and a runner that are dropped without Close are freed when they are collected.
func TestWhatIsDroppedIsFreed(t *testing.T) {
	holds := registered.Load()
	func() {
		h, err := NewHost(WithHostAPI(&recorder{}), WithPolicy("trusted"))
		if err != nil {
			t.Fatal(err)
		}
		called(t, started(t, h, "dropped", manifestOf(t, wasmFixture), ""), do(`{"do":"echo"}`))
	}()
	eventually(t, "the collector to free them", func() bool {
		runtime.GC()
		return registered.Load() <= holds
	})
}

// Whoever drops a runner and its host in the middle of a call gets the answer still: the call holds them.
func TestACallHoldsWhatItIsMadeOn(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		for name, call := range map[string]func(*Runner) error{
			"call": func(r *Runner) error {
				_, err := r.Call(context.Background(), "command", asks("kv_get", `{"key":"k"}`))
				return err
			},
			"function": func(r *Runner) error {
				fn, err := r.Function("command")
				if err != nil {
					return err
				}
				_, err = fn.Call(context.Background(), asks("kv_get", `{"key":"k"}`))
				return err
			},
		} {
			api := &recorder{onGet: func(context.Context, string) ([]byte, error) {
				for range 10 {
					runtime.GC()
				}
				return []byte("v"), nil
			}}
			h, err := NewHost(WithPolicy("trusted"), WithHostAPI(api), WithLogger(quiet))
			if err != nil {
				t.Fatal(err)
			}
			if err := call(started(t, h, "dropped", manifestOf(t, fixture), "")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// The same for a manager, which is dropped with its host while it loads.
func TestALoadHoldsTheManagerAndItsHost(t *testing.T) {
	h, err := NewHost(WithPolicy("trusted"), WithLogger(quiet), WithEvents(func(Event) {
		for range 5 {
			runtime.GC()
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Load(context.Background(), folder(t, wasmFixture), nil); err != nil {
		t.Error(err)
	}
}
