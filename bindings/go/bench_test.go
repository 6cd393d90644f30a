//go:build cgo && linux && !flowplug_static

package flowplug

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowplug/flowplug/bindings/go/internal/cloop"
)

// payload is object-dense JSON of about n bytes.
func payload(n int) json.RawMessage {
	const item = `{"id":1,"ok":true,"t":"abc"},`
	return json.RawMessage("[" + strings.TrimSuffix(strings.Repeat(item, max(n/len(item), 1)), ",") + "]")
}

// BenchmarkCall compares a Go call with the same C call in a C loop (S12): with a context that cannot end, and with one that
// can, as a request's. Rounds of all of them take turns, so that a busy machine slows them alike; the figures are medians.
func BenchmarkCall(b *testing.B) {
	r := started(b, newTestHost(b, WithLogger(quiet)), "bench", manifestOf(b, "wat-hostile"), "")
	echo, err := r.Function("echo")
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	never := context.Background()
	may, cancel := context.WithTimeout(never, time.Hour)
	defer cancel()
	for _, size := range []struct {
		name string
		n    int
	}{{"100B", 100}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}} {
		params := payload(size.n)
		inC := func(timeout time.Duration, canEnd bool) func(int) error {
			return func(n int) error { return cloop.Calls(echo.handle.ptr, params, uint64(timeout), canEnd, n) }
		}
		inGo := func(ctx context.Context, call func(context.Context) error) func(int) error {
			return func(n int) error {
				for range n {
					if err := call(ctx); err != nil {
						return err
					}
				}
				return nil
			}
		}
		byHandle := func(ctx context.Context) error { _, err := echo.Call(ctx, params); return err }
		byName := func(ctx context.Context) error { _, err := r.Call(ctx, "echo", params); return err }
		b.Run(size.name, func(b *testing.B) {
			took := interleaved(b, []func(int) error{
				inC(0, false), inGo(never, byHandle), inGo(never, byName), inC(time.Hour, true), inGo(may, byHandle),
			})
			b.ReportMetric(0, "ns/op") // that of all of them together says nothing
			b.ReportMetric(took[0], "C-ns")
			b.ReportMetric(took[1]-took[0], "+Go-ns")
			b.ReportMetric(took[2]-took[0], "+Go-by-name-ns")
			b.ReportMetric(took[4]-took[3], "+Go-can-end-ns")
		})
	}
}

// interleaved runs rounds of each in turn and returns the median times of one call, in nanoseconds.
func interleaved(b *testing.B, loops []func(n int) error) []float64 {
	const round = 200
	times := make([][]float64, len(loops))
	for range max(b.N/(round*len(loops)), 3) {
		for i, loop := range loops {
			since := time.Now()
			if err := loop(round); err != nil {
				b.Fatal(err)
			}
			times[i] = append(times[i], float64(time.Since(since).Nanoseconds())/round)
		}
	}
	medians := make([]float64, len(loops))
	for i := range times {
		slices.Sort(times[i])
		medians[i] = times[i][len(times[i])/2]
	}
	return medians
}

func calls(b *testing.B, ctx context.Context, fn *Function, params json.RawMessage) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fn.Call(ctx, params); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParallel is one plugin called from every processor, with a context that cannot end.
func BenchmarkParallel(b *testing.B) {
	m := manifestOf(b, "wat-hostile")
	m.Wasm.Pool.MaxInstances = 8
	r := started(b, newTestHost(b, WithLogger(quiet)), "bench", m, "")
	echo, err := r.Function("echo")
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	params := payload(100)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := echo.Call(context.Background(), params); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkHostCall is a call with one callback into Go.
func BenchmarkHostCall(b *testing.B) {
	value := []byte("0123456789abcdef")
	api := &recorder{onGet: func(context.Context, string) ([]byte, error) { return value, nil }}
	r := started(b, newTestHost(b, WithHostAPI(api)), "bench", manifestOf(b, wasmFixture), "")
	command, err := r.Function("command")
	if err != nil {
		b.Fatal(err)
	}
	defer command.Close()
	calls(b, context.Background(), command, asks("kv_get", `{"key":"k"}`))
}

// BenchmarkProcess is a call of a gRPC plugin.
func BenchmarkProcess(b *testing.B) {
	r := started(b, newTestHost(b, WithLogger(quiet)), "bench", manifestOf(b, grpcFixture), "")
	params := do(`{"do":"echo","text":"` + strings.Repeat("x", 60) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Call(context.Background(), "command", params); err != nil {
			b.Fatal(err)
		}
	}
}

// A call whose context cannot end allocates its result and nothing else.
func TestACallAllocatesItsResultAlone(t *testing.T) {
	r := started(t, newTestHost(t, WithLogger(quiet)), "lean", manifestOf(t, "wat-hostile"), "")
	echo, err := r.Function("echo")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	params := payload(100)
	for name, call := range map[string]func() error{
		"by handle": func() error { _, err := echo.Call(context.Background(), params); return err },
		"by name":   func() error { _, err := r.Call(context.Background(), "echo", params); return err },
	} {
		allocs := testing.AllocsPerRun(1000, func() {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		})
		// The race detector allocates on its own account, and so does a collection.
		if allocs > 1 && !raceEnabled && !collects {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}
