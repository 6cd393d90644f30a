//go:build cgo && linux

package flowplug

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestANilDereferenceStaysRecoverable(t *testing.T) {
	r := started(t, newTestHost(t, WithLogger(quiet)), "signals", manifestOf(t, "wat-hostile"), "")
	runtime.LockOSThread() // the thread that has run wasm is the one that faults
	defer runtime.UnlockOSThread()
	for _, fault := range []string{"unreachable", "wild_load", "divide"} {
		if _, err := r.Call(context.Background(), fault, nil); !errors.Is(err, ErrTrap) {
			t.Errorf("%s: %v", fault, err)
		}
	}
	var caught any
	func() {
		defer func() { caught = recover() }()
		var nothing *int
		*nothing = 1
	}()
	if err, ok := caught.(runtime.Error); !ok || !strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("%v", caught)
	}
	if got, err := r.Call(context.Background(), "echo", json.RawMessage("1")); err != nil || string(got) != "1" {
		t.Errorf("%s %v", got, err)
	}
}

// A fault in a method has the library's and the guest's frames below it on the same thread.
func TestANilDereferenceInAMethodFailsTheRequestAlone(t *testing.T) {
	for name, opts := range map[string][]HostOption{"inline": nil, "detached": {WithDetachedCallbacks()}} {
		t.Run(name, func(t *testing.T) {
			api := &recorder{onGet: func(context.Context, string) ([]byte, error) {
				var nothing *int
				*nothing = 1
				return nil, nil
			}}
			h := newTestHost(t, append(opts, WithLogger(quiet), WithHostAPI(api))...)
			r := started(t, h, "p", manifestOf(t, wasmFixture), "")
			for range 3 {
				if got := called(t, r, asks("kv_get", `{"key":"k"}`)); !strings.Contains(got, "nil pointer") {
					t.Error(got)
				}
			}
		})
	}
}

// duringCalls runs storm while one thread, whose number it is given, does nothing but call: functions that
// return, and loops that their deadline ends. It counts its rounds.
func duringCalls(t *testing.T, storm func(thread int, rounds *atomic.Int64)) {
	t.Helper()
	r := started(t, newTestHost(t), "p", manifestOf(t, wasmFixture), "")
	var rounds atomic.Int64
	thread, over, ended := make(chan int), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- syscall.Gettid()
		for {
			select {
			case <-over:
				return
			default:
			}
			if got, err := r.Call(context.Background(), "command", do(`{"do":"echo","n":1}`)); err != nil || string(got) != `{"do":"echo","n":1}` {
				t.Errorf("%s %v", got, err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			if _, err := r.Call(ctx, "command", do(`{"do":"spin"}`)); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
			rounds.Add(1)
		}
	}()
	storm(<-thread, &rounds)
	close(over)
	<-ended
}

func TestCPUProfilesAreTakenDuringCalls(t *testing.T) {
	duringCalls(t, func(_ int, rounds *atomic.Int64) {
		// As often as it takes until the signal has come while the guest ran.
		eventually(t, "a sample of a call", func() bool {
			var profile bytes.Buffer
			if err := pprof.StartCPUProfile(&profile); err != nil {
				t.Fatal(err)
			}
			begun := rounds.Load()
			eventually(t, "ten rounds", func() bool { return rounds.Load() >= begun+10 })
			pprof.StopCPUProfile()
			unpacked, err := gzip.NewReader(&profile)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(unpacked)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Contains(text, []byte("fp_function_call"))
		})
	})
}

// SIGURG is Go's own: its scheduler sends it to whoever runs for too long.
func TestPreemptionSignalsDuringCalls(t *testing.T) {
	duringCalls(t, func(thread int, _ *atomic.Int64) {
		for range 5000 {
			if err := syscall.Tgkill(os.Getpid(), thread, syscall.SIGURG); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			garbage := make([][]byte, 1000)
			for i := range garbage {
				garbage[i] = make([]byte, 1000)
			}
			runtime.GC()
		}
	})
}

func TestSignalsAreNotifiedDuringCalls(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	defer signal.Stop(got)
	duringCalls(t, func(thread int, _ *atomic.Int64) {
		for i := range 500 {
			var err error
			if i%2 == 0 {
				err = syscall.Tgkill(os.Getpid(), thread, syscall.SIGUSR1)
			} else {
				err = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			}
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-got:
			case <-time.After(patience):
				t.Fatal("waited in vain: the signal")
			}
		}
	})
}
