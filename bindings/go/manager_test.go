//go:build cgo && linux

package flowplug

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// events hands on what a host tells.
func eventsOf(types ...string) (HostOption, <-chan Event) {
	told := make(chan Event, 1000)
	return WithEvents(func(e Event) {
		for _, kind := range types {
			if e.Type == kind {
				told <- e
			}
		}
	}), told
}

func nextEvent(tb testing.TB, told <-chan Event, kind, plugin string) Event {
	tb.Helper()
	for {
		select {
		case e := <-told:
			if e.Type == kind && e.Plugin == plugin {
				return e
			}
		case <-time.After(patience):
			tb.Fatalf("no event %s of %s", kind, plugin)
		}
	}
}

// put copies a built plugin into a folder.
func put(tb testing.TB, name, to string) {
	tb.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		tb.Fatal(err)
	}
	from := folder(tb, name)
	for _, file := range []string{"plugin.wasm", "plugin.yaml"} {
		data, err := os.ReadFile(filepath.Join(from, file))
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, file), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

func newTestManager(tb testing.TB, h *Host, config *PluginConfig) *Manager {
	tb.Helper()
	m, err := NewManager(h, config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			tb.Errorf("closing the manager: %v", err)
		}
	})
	return m
}

func TestAManagerRunsAFolderAndFollowsIt(t *testing.T) {
	option, told := eventsOf("started", "reloaded", "reload_failed", "unloaded")
	h := newTestHost(t, option)
	root := t.TempDir()
	put(t, wasmFixture, filepath.Join(root, "a"))
	m := newTestManager(t, h, &PluginConfig{Enabled: true, HotReload: true, Sources: []SourceConfig{{Type: "local", Path: root}}})
	if err := m.Init(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`{"colour":"blue"}`)}); err != nil {
		t.Fatal(err)
	}
	a, ok := m.Get("a")
	if !ok {
		t.Fatalf("%+v", m.List())
	}
	if got := called(t, a, asks("get_config", `{"key":"colour"}`)); !strings.Contains(got, "blue") {
		t.Errorf("the config that Init was given: %s", got)
	}
	put(t, wasmFixture, filepath.Join(root, "b"))
	if started := nextEvent(t, told, "started", "b"); started.Load == 0 || started.Seq < 2 {
		t.Fatalf("not after what was told of its load: %+v", started)
	}
	put(t, wasmFixture, filepath.Join(root, "a"))
	nextEvent(t, told, "reloaded", "a")
	if err := os.WriteFile(filepath.Join(root, "a", "plugin.yaml"), []byte("name: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	nextEvent(t, told, "reload_failed", "a")
	// The Runner outlives reloads, and the old one goes on.
	if got := called(t, a, do(`{"do":"echo","n":1}`)); !strings.Contains(got, `"n":1`) {
		t.Error(got)
	}
	if err := os.RemoveAll(filepath.Join(root, "b")); err != nil {
		t.Fatal(err)
	}
	nextEvent(t, told, "unloaded", "b")
	if _, ok := m.Get("b"); ok {
		t.Error("b is still there")
	}
	list := m.List()
	if len(list) != 1 || list[0].Identity != "a" || list[0].State != StateRunning || list[0].Manifest == nil || list[0].StartedAt.IsZero() || list[0].Calls < 2 {
		t.Errorf("%+v", list)
	}
	var metrics strings.Builder
	if err := m.Metrics(&metrics); err != nil || !strings.Contains(metrics.String(), `flowplug_calls_total{plugin="a"}`) {
		t.Error(err, metrics.String())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if again, ok := m.Get("a"); !ok || again.State() != StateRunning {
		t.Error("the end of a Runner was the end of the plugin")
	}
}

func TestAManagerLoadsReloadsAndUnloadsByHand(t *testing.T) {
	h := newTestHost(t)
	m := newTestManager(t, h, nil)
	ctx := t.Context()
	dir := folder(t, wasmFixture)
	identity, err := m.Load(ctx, dir, json.RawMessage(`{"n":1}`))
	if err != nil || identity != wasmFixture {
		t.Fatal(identity, err)
	}
	if _, err := m.Load(ctx, dir, nil); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
	// Another manager would have to take the place of the one that has it.
	if err := m.Init(ctx, map[string]json.RawMessage{"a": json.RawMessage(`1`)}); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
	if err := m.ReloadPlugin(ctx, identity, nil, nil); err != nil {
		t.Error(err)
	}
	if err := m.ReloadPlugin(ctx, identity, manifestOf(t, wasmFixture), json.RawMessage(`{"n":2}`)); err != nil {
		t.Error(err)
	}
	r, ok := m.Get(identity)
	if !ok {
		t.Fatal(m.List())
	}
	if got := called(t, r, asks("get_config", `{"key":"n"}`)); !strings.Contains(got, "2") {
		t.Error(got)
	}
	if err := m.UnloadPlugin(ctx, identity); err != nil {
		t.Error(err)
	}
	if r.State() != StateStopped {
		t.Error(r.State())
	}
	if err := m.UnloadPlugin(ctx, identity); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestAManagersFailuresAreErrorsOrInTheList(t *testing.T) {
	h := newTestHost(t)
	if _, err := NewManager(h, &PluginConfig{Sources: []SourceConfig{{Type: "npm"}}}); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
	root := t.TempDir()
	put(t, wasmFixture, filepath.Join(root, "good"))
	put(t, wasmFixture, filepath.Join(root, "bad"))
	if err := os.WriteFile(filepath.Join(root, "bad", "plugin.wasm"), []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	git := SourceConfig{Type: "git", Repos: []GitRepoConfig{{URL: "https://example.com/o/r"}}}
	m := newTestManager(t, h, &PluginConfig{Enabled: true, Sources: []SourceConfig{git, {Type: "local", Path: root}}})
	if err := m.Init(t.Context(), nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	list := m.List()
	if len(list) != 2 || list[0].State != StateError || list[0].LastError == "" || list[1].State != StateRunning {
		t.Errorf("%+v", list)
	}
	if _, ok := m.Get("bad"); ok {
		t.Error("a plugin that could not be loaded was got")
	}
	if err := m.Init(t.Context(), nil); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := m.Load(t.Context(), root, nil); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
}
