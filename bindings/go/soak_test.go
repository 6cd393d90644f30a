//go:build cgo && linux

package flowplug

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// holdings is all that a process can lose without noticing.
type holdings struct {
	goroutines, threads, descriptors, frames int
	registered                               int64
	resident                                 int // KiB
}

func held(tb testing.TB) (now holdings) {
	tb.Helper()
	debug.FreeOSMemory()
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			tb.Fatal(err)
		}
		return len(entries)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(after, &now.resident); err != nil {
		tb.Fatal(err)
	}
	now.goroutines, now.registered = runtime.NumGoroutine(), registered.Load()
	now.threads, now.descriptors = count("/proc/self/task"), count("/proc/self/fd")
	now.frames = len(*frames.all.Load())
	return now
}

// soaked returns how often to do something: what the environment says (`make soak`), else what fits a test.
func soaked(tb testing.TB, name string, short int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		if collects {
			return short / 10
		}
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < short {
		tb.Fatalf("%s must be a number from %d on", name, short)
	}
	return n
}

// flat does work n/4 times to warm up and n times to count, and fails if anything has grown since. Threads, memory and frames have a margin: those
// of the runtimes come and go, and a frame waits for the collector now and then.
func flat(t *testing.T, n int, work func(n int)) {
	t.Helper()
	work(max(n/4, 1))
	before := held(t)
	since := time.Now()
	work(n)
	took := time.Since(since)
	margin, spare := 8<<10, 64
	if raceEnabled {
		margin, spare = 8*margin, 8*spare // the detector keeps its own books, and has pools forget
	}
	var after holdings
	eventually(t, "everything to be given back", func() bool {
		after = held(t)
		return after.goroutines <= before.goroutines && after.descriptors <= before.descriptors && after.registered <= before.registered
	})
	if after.threads > before.threads+4 || after.frames > before.frames+spare || after.resident > before.resident+margin {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	t.Logf("%d in %v; before %+v; after %+v", n, took.Round(time.Millisecond), before, after)
}

// Calls of every kind from eight goroutines, so that some calls of a process hold a thread and others none: with a context that can end
// and one that cannot, with a method, one that fails, one in 100 that is cancelled inside of a method.
func TestManyCallsLeaveNothingBehind(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		var ending sync.Map // the cancel of a call, by the key that it asks for
		api := &recorder{}
		api.onGet = func(ctx context.Context, key string) ([]byte, error) {
			if cancel, ok := ending.Load(key); ok {
				cancel.(context.CancelFunc)()
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []byte("v"), nil
		}
		m := manifestOf(t, fixture)
		if m.Wasm != nil {
			m.Wasm.Pool.MaxInstances = 4
		}
		r := started(t, newTestHost(t, WithHostAPI(api), WithLogger(quiet)), "soak", m, "")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var next atomic.Int64
		once := func() error {
			i := next.Add(1)
			switch {
			case i%100 == 0:
				key := strconv.FormatInt(i, 10)
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				ending.Store("plugin:soak:"+key, cancel)
				defer ending.Delete("plugin:soak:" + key)
				_, err := r.Call(ctx, "command", asks("kv_get", `{"key":"`+key+`"}`))
				// A process may have answered before it is told that nobody waits.
				if !errors.Is(err, context.Canceled) && (err != nil || fixture == wasmFixture) {
					return fmt.Errorf("cancelled: %v", err)
				}
			case i%10 == 0:
				if _, err := r.Call(ctx, "command", do(`{"do":"error","text":"no"}`)); !errors.Is(err, ErrPlugin) {
					return err
				}
			case i%3 == 0:
				_, err := r.Call(ctx, "command", asks("kv_get", `{"key":"k"}`))
				return err
			case i%2 == 0:
				_, err := r.Call(ctx, "command", do(`{"do":"echo"}`))
				return err
			default:
				_, err := r.Call(context.Background(), "command", do(`{"do":"echo"}`))
				return err
			}
			return nil
		}
		short := 2000
		if fixture == grpcFixture {
			short = 400
		}
		flat(t, soaked(t, "FLOWPLUG_SOAK_GO_CALLS", short), func(n int) {
			var all sync.WaitGroup
			for range 8 {
				all.Add(1)
				go func() {
					defer all.Done()
					for range n / 8 {
						if err := once(); err != nil {
							t.Error(err)
							return
						}
					}
				}()
			}
			all.Wait()
		})
	})
}

// Loads, starts, calls and ends; every second without a Stop, every fourth with a HostAPI and a host of its own. Of processes a tenth.
func TestManyLoadsLeaveNothingBehind(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		n := soaked(t, "FLOWPLUG_SOAK_GO_LOADS", 40)
		if fixture == grpcFixture {
			n = max(n/10, 2)
		}
		m := manifestOf(t, fixture)
		shared := newTestHost(t, WithLogger(quiet))
		load := func(i int) {
			h, opts := shared, []RunnerOption{}
			if i%4 == 0 {
				own, err := NewHost(WithPolicy("trusted"), WithLogger(quiet))
				if err != nil {
					t.Fatal(err)
				}
				defer own.Close()
				h, opts = own, append(opts, WithRunnerHostAPI(&recorder{}))
			}
			r := started(t, h, "soak", m, "", opts...)
			defer r.Close()
			fn, err := r.Function("command")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fn.Call(t.Context(), asks("kv_set", `{"key":"k","value":"v"}`)); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				if err := r.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		flat(t, n, func(n int) {
			for i := range n {
				load(i)
			}
		})
	})
}
