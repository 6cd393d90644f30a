//go:build cgo && linux

package flowplug

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what happens at once.
const patience = 30 * time.Second

// The fixtures: one contract in both runtimes, steered by what `command` is told.
const (
	wasmFixture = "c-fixture"
	grpcFixture = "fixture-grpc-go"
)

// folder returns the folder of a built plugin.
func folder(tb testing.TB, name string) string {
	tb.Helper()
	root := os.Getenv("FLOWPLUG_TEST_PLUGINS")
	if root == "" {
		root = filepath.Join("..", "..", "target", "plugins")
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(filepath.Join(dir, "plugin.yaml")); err != nil {
		tb.Fatalf("the plugin %s is not built: run `make plugins` in the repository's root, or set FLOWPLUG_TEST_PLUGINS (%v)", name, err)
	}
	return dir
}

func manifestOf(tb testing.TB, name string) *Manifest {
	tb.Helper()
	m, err := ReadManifest(folder(tb, name))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// newTestHost makes a host that grants what manifests ask, and closes it at the end.
func newTestHost(tb testing.TB, opts ...HostOption) *Host {
	tb.Helper()
	h, err := NewHost(append([]HostOption{WithPolicy("trusted")}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Errorf("closing the host: %v", err)
		}
	})
	return h
}

// started loads and starts a manifest under the identity.
func started(tb testing.TB, h *Host, identity string, m *Manifest, config string, opts ...RunnerOption) *Runner {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	r := h.NewRunner(identity, opts...)
	if _, err := r.Load(ctx, m); err != nil {
		tb.Fatal(err)
	}
	var raw json.RawMessage
	if config != "" {
		raw = json.RawMessage(config)
	}
	if err := r.Start(ctx, raw); err != nil {
		tb.Fatal(err)
	}
	return r
}

// do is the params of `command` that have a fixture do something.
func do(content string) json.RawMessage {
	return json.RawMessage(`{"context":{},"content":` + content + `}`)
}

// asks is the content that has a fixture call a host function.
func asks(fn, args string) json.RawMessage {
	return do(fmt.Sprintf(`{"do":"host","fn":%q,"args":%s}`, fn, args))
}

// called calls `command` and returns its answer.
func called(tb testing.TB, r *Runner, params json.RawMessage) string {
	tb.Helper()
	result, err := r.Call(context.Background(), "command", params)
	if err != nil {
		tb.Fatal(err)
	}
	return string(result)
}

// endless makes a call that does not end by itself, and returns when it is inside the plugin: the plugin has called the HostAPI.
func endless(ctx context.Context, tb testing.TB, r *Runner, api *recorder, fixture string) (failed <-chan error) {
	tb.Helper()
	entered, over := make(chan struct{}), make(chan struct{})
	held := fixture == grpcFixture
	api.set(func() {
		api.onSet = func(context.Context, string, []byte) error {
			close(entered)
			if held {
				<-over
			}
			return nil
		}
	})
	params := do(`{"do":"sleep","ms":60000,"tell":"inside"}`)
	if held {
		params = asks("kv_set", `{"key":"inside","value":"1"}`)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Call(ctx, "command", params)
		close(over)
		ended <- err
	}()
	select {
	case <-entered:
	case err := <-ended:
		tb.Fatalf("the call ended before it was inside: %v", err)
	case <-time.After(patience):
		tb.Fatal("waited in vain: the call")
	}
	return ended
}

// eventually waits until cond holds.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

// inFlight counts the calls in progress that have a context of their own.
func inFlight() (n int) {
	for _, f := range *frames.all.Load() {
		f.mu.Lock()
		if f.ctx != context.Background() {
			n++
		}
		f.mu.Unlock()
	}
	return n
}

// recorder is a HostAPI that keeps what it is given, and whose functions a test can replace.
type recorder struct {
	UnimplementedHostAPI
	mu     sync.Mutex
	kv     map[string][]byte
	logs   []string
	events []DataEvent

	onConfig func(ctx context.Context, key string) (string, error)
	onGet    func(ctx context.Context, key string) ([]byte, error)
	onSet    func(ctx context.Context, key string, value []byte) error
	onDelete func(ctx context.Context, key string) error
	onHTTP   func(ctx context.Context, r *HostHTTPRequest) (*HostHTTPResponse, error)
	onEvent  func(ctx context.Context, e DataEvent) error
}

// hook reads one of the functions, and set writes some: the library's threads are not known to the race detector.
func hook[F any](a *recorder, f *F) F {
	a.mu.Lock()
	defer a.mu.Unlock()
	return *f
}

func (a *recorder) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *recorder) GetConfig(ctx context.Context, key string) (string, error) {
	if f := hook(a, &a.onConfig); f != nil {
		return f(ctx, key)
	}
	return a.UnimplementedHostAPI.GetConfig(ctx, key)
}

func (a *recorder) Log(ctx context.Context, level, msg string, fields map[string]string) {
	who, _ := PluginFromContext(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logs = append(a.logs, strings.TrimSpace(fmt.Sprintf("%s %s %s %v", who, level, msg, fields)))
}

func (a *recorder) logged(part string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(strings.Join(a.logs, "\n"), part)
}

func (a *recorder) KVGet(ctx context.Context, key string) ([]byte, error) {
	if f := hook(a, &a.onGet); f != nil {
		return f(ctx, key)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kv[key], nil
}

func (a *recorder) KVSet(ctx context.Context, key string, value []byte) error {
	if f := hook(a, &a.onSet); f != nil {
		return f(ctx, key, value)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kv == nil {
		a.kv = map[string][]byte{}
	}
	a.kv[key] = value
	return nil
}

func (a *recorder) KVDelete(ctx context.Context, key string) error {
	if f := hook(a, &a.onDelete); f != nil {
		return f(ctx, key)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kv, key)
	return nil
}

func (a *recorder) HTTPRequest(ctx context.Context, r *HostHTTPRequest) (*HostHTTPResponse, error) {
	if f := hook(a, &a.onHTTP); f != nil {
		return f(ctx, r)
	}
	return a.UnimplementedHostAPI.HTTPRequest(ctx, r)
}

func (a *recorder) EmitEvent(ctx context.Context, e DataEvent) error {
	if f := hook(a, &a.onEvent); f != nil {
		return f(ctx, e)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
	return nil
}
