// S5: a warm call from Go through this project's binding beside wazero, bare and in flowbot's way: one guest, the same
// payloads, rounds that take turns, medians. S9: a call of a Go plugin's process, beside go-plugin's own client.
//
// Usage: go run . in benches/go, after `make build plugins`. Needs wabt's wat2wasm.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flowplug/flowplug/bindings/go"
)

const (
	rounds = 401
	// roundTime is about how long a round of one case takes: less than a busy system leaves a thread alone for.
	roundTime = time.Millisecond
)

// echo is one way to call the guest: it answers its parameters.
type echo func(params json.RawMessage) (json.RawMessage, error)

type way struct {
	name string
	echo echo
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	folder, err := os.MkdirTemp("", "flowplug-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	module := filepath.Join(folder, "echo.wasm")
	if out, err := exec.Command("wat2wasm", "../support/echo.wat", "-o", module).CombinedOutput(); err != nil {
		return fmt.Errorf("wat2wasm: %w: %s", err, out)
	}
	// A context of the usual kind: a request's, which can end.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	ours, closeOurs, err := flowplugWays(ctx, module)
	if err != nil {
		return err
	}
	defer closeOurs()
	code, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	bare, err := newBare(code)
	if err != nil {
		return err
	}
	flowbots, err := newFlowbots(code)
	if err != nil {
		return err
	}
	ways := append([]way{
		{"wazero alone", bare.echo},
		{"flowbot's way, a context that can end", func(params json.RawMessage) (json.RawMessage, error) {
			return flowbots.call(ctx, "echo", params)
		}},
	}, ours...)
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		if err := compare(ways, payload(size)); err != nil {
			return err
		}
	}
	return compareGRPC(ctx, json.RawMessage(`[12345,"flow",{"tags":["a","b"],"ok":true},"of some 100 bytes in all"]`))
}

func flowplugWays(ctx context.Context, module string) ([]way, func(), error) {
	host, err := flowplug.NewHost(flowplug.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		return nil, nil, err
	}
	manifest, err := flowplug.ParseManifest(fmt.Appendf(nil, "{name: echo, runtime: wasm, wasm: {module: %q}}", filepath.Base(module)), flowplug.WithBaseDir(filepath.Dir(module)))
	if err != nil {
		return nil, nil, err
	}
	runner := host.NewRunner("bench")
	if _, err := runner.Load(ctx, manifest); err != nil {
		return nil, nil, err
	}
	if err := runner.Start(ctx, nil); err != nil {
		return nil, nil, err
	}
	function, err := runner.Function("echo")
	if err != nil {
		return nil, nil, err
	}
	trusting, err := runner.Function("echo", flowplug.TrustJSON())
	if err != nil {
		return nil, nil, err
	}
	never := context.Background()
	ways := []way{
		{"Function.Call, a context that cannot end", func(p json.RawMessage) (json.RawMessage, error) { return function.Call(never, p) }},
		{"Function.Call, a context that can end", func(p json.RawMessage) (json.RawMessage, error) { return function.Call(ctx, p) }},
		{"Function.Call, the same, TrustJSON", func(p json.RawMessage) (json.RawMessage, error) { return trusting.Call(ctx, p) }},
		{"Runner.Call, a context that can end", func(p json.RawMessage) (json.RawMessage, error) { return runner.Call(ctx, "echo", p) }},
	}
	return ways, func() { _ = host.Close() }, nil
}

// payload is object-dense JSON of about n bytes.
func payload(n int) json.RawMessage {
	const item = `{"id":12345,"name":"flow","tags":["a","b"],"ok":true}`
	return json.RawMessage("[" + item + strings.Repeat(","+item, (n-1)/(len(item)+1)) + "]")
}

// compare prints what a call takes in each way.
func compare(ways []way, params json.RawMessage) error {
	medians, err := measure(ways, params)
	if err != nil {
		return err
	}
	fmt.Printf("\nGo: echo of %d B\n", len(params))
	for i, w := range ways {
		fmt.Printf("  %-42s %9.0f ns   %5.2f x wazero alone   %5.1f times flowbot's speed\n", w.name, medians[i], medians[i]/medians[0], medians[1]/medians[i])
	}
	return nil
}

// measure is what a call takes in each way, in nanoseconds: the median of rounds that take turns.
func measure(ways []way, params json.RawMessage) ([]float64, error) {
	counts := make([]int, len(ways))
	times := make([][]float64, len(ways))
	for i, w := range ways {
		if got, err := w.echo(params); err != nil || !bytes.Equal(got, params) {
			return nil, fmt.Errorf("%s: %w, %.100s", w.name, err, got)
		}
		count, err := calibrated(w.echo, params)
		if err != nil {
			return nil, err
		}
		counts[i] = count
	}
	for range rounds {
		for i, w := range ways {
			took, err := timed(w.echo, params, counts[i])
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], float64(took.Nanoseconds())/float64(counts[i]))
		}
	}
	return mediansOf(times), nil
}

// mediansOf sorts what rounds took, and is the middle of each.
func mediansOf(times [][]float64) []float64 {
	medians := make([]float64, len(times))
	for i, of := range times {
		slices.Sort(of)
		medians[i] = of[len(of)/2]
	}
	return medians
}

// calibrated is how many calls a round takes. The best of some tries counts: one that was interrupted says nothing.
func calibrated(echo echo, params json.RawMessage) (int, error) {
	for count := 1; ; count *= 2 {
		best := time.Duration(math.MaxInt64)
		for range 9 {
			took, err := timed(echo, params, count)
			if err != nil {
				return 0, err
			}
			best = min(best, took)
		}
		if best > roundTime/2 {
			return count, nil
		}
	}
}

func timed(echo echo, params json.RawMessage, count int) (time.Duration, error) {
	since := time.Now()
	for range count {
		if _, err := echo(params); err != nil {
			return 0, err
		}
	}
	return time.Since(since), nil
}
