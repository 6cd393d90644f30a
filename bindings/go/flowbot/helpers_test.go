// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/flowbot"
)

// patience is how long a test waits for what happens at once.
const patience = 60 * time.Second

// cache keeps compiled modules from one test to the next.
var cache string

func TestMain(m *testing.M) {
	var err error
	if cache, err = os.MkdirTemp("", "flowbot"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(cache)
	os.Exit(code)
}

// services is a HostAPI of flowbot's that keeps what it is told, and serves one page at every address.
type services struct {
	mu      sync.Mutex
	config  map[string]string
	kv      map[string][]byte
	asked   []*plugin.HostHTTPRequest
	events  []types.DataEvent
	records []string
	failing error
	onSet   func() // called in KVSet
}

func newServices() *services {
	return &services{config: map[string]string{"user_agent": "flowbot"}, kv: map[string][]byte{}}
}

func (s *services) GetConfig(_ context.Context, key string) (string, error) {
	if value, there := s.config[key]; there {
		return value, nil
	}
	return "", types.ErrNotFound
}

func (s *services) Log(_ context.Context, level, msg string, fields map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, _ := json.Marshal(fields)
	s.records = append(s.records, level+" "+msg+" "+string(text))
}

func (s *services) KVGet(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, there := s.kv[key]; there {
		return value, s.failing
	}
	return nil, types.ErrNotFound
}

func (s *services) KVSet(_ context.Context, key string, value []byte) error {
	if s.onSet != nil {
		s.onSet()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kv[key] = value
	return s.failing
}

func (s *services) KVDelete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kv, key)
	return s.failing
}

func (s *services) HTTPRequest(_ context.Context, r *plugin.HostHTTPRequest) (*plugin.HostHTTPResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	return &plugin.HostHTTPResponse{Status: 200, Headers: map[string]string{"Content-Type": "text/html"}, Body: []byte("<title>A page</title>")}, s.failing
}

func (s *services) EmitEvent(_ context.Context, event types.DataEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event)
	return s.failing
}

func (s *services) logged(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(strings.Join(s.records, "\n"), part)
}

// built is the folder of a plugin that `make plugins` has built.
func built(t testing.TB, name string) string {
	t.Helper()
	root := os.Getenv("FLOWPLUG_TEST_PLUGINS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "target", "plugins")
	}
	folder, err := filepath.Abs(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "plugin.yaml")); err != nil {
		t.Fatalf("%v (run `make plugins` in the repository's root, or set FLOWPLUG_TEST_PLUGINS)", err)
	}
	return folder
}

// manifestText is the plugin's manifest without its schema, which flowbot's parser does not read as YAML.
func manifestText(t testing.TB, folder string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "plugin.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "\nconfig_schema:")
	return before + "\n"
}

// manifestOf is the plugin's manifest as flowbot reads it.
func manifestOf(t testing.TB, folder string) *plugin.Manifest {
	t.Helper()
	m, err := plugin.ParseManifest([]byte(manifestText(t, folder)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newHost(t testing.TB, opts ...flowplug.HostOption) *flowplug.Host {
	t.Helper()
	host, err := flowplug.NewHost(append([]flowplug.HostOption{flowplug.WithCacheDir(cache)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	return host
}

// loaded makes the runner of a built plugin and loads it.
func loaded(t testing.TB, host *flowplug.Host, identity, name string, api plugin.HostAPI) plugin.Runner {
	t.Helper()
	folder := built(t, name)
	r, err := flowbot.NewRunner(host, identity, folder, manifestOf(t, folder), api)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(context.Background(), manifestOf(t, folder)); err != nil {
		t.Fatal(err)
	}
	return r
}

// tell has the fixture do something.
func tell(r plugin.Runner, content string) (string, error) {
	answer, err := r.Call(context.Background(), "command", json.RawMessage(`{"context":{},"content":`+content+`}`))
	return string(answer), err
}

// until waits for the thing.
func until(t testing.TB, what string, there func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come: %s", what)
		}
	}
}

// is says whether err is all of these.
func is(err error, kinds ...error) bool {
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			return false
		}
	}
	return true
}
