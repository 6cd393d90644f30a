// Package plugins tests the SDK's WebAssembly side under an engine that is not this project's, with the host's functions played by the test.
package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

var (
	engine  wazero.Runtime
	modules = map[string]wazero.CompiledModule{"bookmark": nil, "fixture": nil}
)

func TestMain(m *testing.M) {
	ctx := context.Background()
	engine = wazero.NewRuntime(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, engine)
	if err := hostModule(ctx); err != nil {
		panic(err)
	}
	folder, err := os.MkdirTemp("", "guests")
	if err != nil {
		panic(err)
	}
	for name, source := range map[string]string{"bookmark": "../../../examples/plugins/bookmark-go", "fixture": "fixture"} {
		path := filepath.Join(folder, name+".wasm")
		build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
		build.Dir, build.Env = source, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%s does not build: %v\n%s", name, err, out))
		}
		code, err := os.ReadFile(path)
		if err == nil {
			modules[name], err = engine.CompileModule(ctx, code)
		}
		if err != nil {
			panic(err)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	_ = engine.Close(ctx)
	os.Exit(code)
}

// guest is one instance, and what its host knows.
type guest struct {
	t       *testing.T
	module  api.Module
	config  map[string]string
	kv      map[string]string
	pages   map[string]string
	logs    []string
	events  []string
	failure string // of the last host call that failed
	output  strings.Builder
	// churn is garbage made in the instance whenever the host has it allocate, so that a buffer which nothing keeps does not survive.
	churn bool
}

type guestKey struct{}

// instantiate makes an instance. GOGC=1 makes its garbage collector run all the time.
func instantiate(t *testing.T, name string) *guest {
	t.Helper()
	g := &guest{t: t, config: map[string]string{"user_agent": "tester"}, kv: map[string]string{}, pages: map[string]string{}}
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize").WithEnv("GOGC", "1").
		WithStdout(&g.output).WithStderr(&g.output).WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	module, err := engine.InstantiateModule(g.ctx(), modules[name], config)
	if err != nil {
		t.Fatal(err)
	}
	g.module = module
	t.Cleanup(func() { _ = module.Close(context.Background()) })
	return g
}

func (g *guest) ctx() context.Context { return context.WithValue(context.Background(), guestKey{}, g) }

func (g *guest) raw(function string, params ...uint64) (uint64, error) {
	results, err := g.module.ExportedFunction(function).Call(g.ctx(), params...)
	if err != nil || len(results) == 0 {
		return 0, err
	}
	return results[0], nil
}

// write puts bytes into a buffer of the guest's and returns its address.
func (g *guest) write(data []byte) uint64 {
	g.t.Helper()
	address, err := g.raw("alloc", uint64(len(data)))
	if err != nil || address == 0 {
		g.t.Fatalf("alloc(%d) is %d, %v", len(data), address, err)
	}
	if g.churn {
		for range 8 {
			garbage, _ := g.raw("alloc", 64<<10)
			g.module.Memory().Write(uint32(garbage), []byte(strings.Repeat("#", 64<<10)))
			_, _ = g.raw("free", garbage)
		}
	}
	if !g.module.Memory().Write(uint32(address), data) {
		g.t.Fatalf("alloc gave %d bytes at %#x, outside memory", len(data), address)
	}
	return address
}

// call makes one call as the host does, and opens the envelope.
func (g *guest) call(function, params string) (data string, failure *string, trap error) {
	g.t.Helper()
	var packed uint64
	if params == "" {
		packed, trap = g.raw(function)
	} else {
		address := g.write([]byte(params))
		packed, trap = g.raw(function, address, uint64(len(params)))
		if trap == nil {
			defer func() { _, _ = g.raw("free", address) }()
		}
	}
	if trap != nil {
		return "", nil, trap
	}
	if g.churn {
		_, _ = g.raw("free", g.write(make([]byte, 64<<10)))
	}
	text, ok := g.module.Memory().Read(uint32(packed>>32), uint32(packed))
	if !ok {
		g.t.Fatalf("%s answered %#x, outside memory", function, packed)
	}
	var envelope struct {
		Error *string
		Data  json.RawMessage
	}
	if err := json.Unmarshal(text, &envelope); err != nil {
		g.t.Fatalf("%s answered %q: %v", function, text, err)
	}
	if _, err := g.raw("free", packed>>32); err != nil {
		g.t.Fatalf("free: %v", err)
	}
	return string(envelope.Data), envelope.Error, nil
}

// want makes a call that has to answer this data.
func (g *guest) want(function, params, data string) {
	g.t.Helper()
	got, failure, trap := g.call(function, params)
	if trap != nil || failure != nil || got != data {
		g.t.Errorf("%s %s: got %s, error %s, trap %v; want %s", function, params, got, show(failure), trap, data)
	}
}

// fails makes a call that has to answer this error.
func (g *guest) fails(function, params, text string) {
	g.t.Helper()
	got, failure, trap := g.call(function, params)
	if trap != nil || failure == nil || !strings.HasPrefix(*failure, text) || got != "null" {
		g.t.Errorf("%s %s: got %s, error %s, trap %v; want the error %q", function, params, got, show(failure), trap, text)
	}
}

// do is command with this content.
func do(content string) string { return `{"context":{},"content":` + content + `}` }

func show(text *string) string {
	if text == nil {
		return "none"
	}
	return fmt.Sprintf("%q", *text)
}
