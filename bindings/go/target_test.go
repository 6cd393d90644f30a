//go:build cgo && linux

package flowplug

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestAPanicOfTheProgramIsReportedAndContained(t *testing.T) {
	var out bytes.Buffer
	target := newTarget(nil, slog.New(slog.NewTextHandler(&out, nil)), func(Event) { panic("in events") })
	target.event(Event{})
	if !strings.Contains(out.String(), "in events") {
		t.Error(out.String())
	}
	target.served(0, func() func() { panic("in a method") })
	if !strings.Contains(out.String(), "in a method") {
		t.Error(out.String())
	}
}

func TestRecordsGoToTheLoggerWhereNoMethodTakesThem(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	api := &recorder{}
	of := func(target *target, identity string) context.Context {
		return context.WithValue(context.Background(), hostCallKey{}, &hostCall{identity: identity, target: target})
	}
	both := newTarget(api, logger, nil)
	both.record(of(both, "org/a"), "info", "of a plugin", nil)
	both.record(of(both, ""), "debug", "of the library", map[string]string{"k": "v"})
	if !api.logged("of a plugin") || api.logged("of the library") || !strings.Contains(out.String(), `level=DEBUG msg="of the library" k=v`) {
		t.Error(out.String())
	}
	plain := newTarget(UnimplementedHostAPI{}, logger, nil)
	plain.record(of(plain, "org/b"), "warn", "not overridden", nil)
	if !strings.Contains(out.String(), `level=WARN msg="not overridden" plugin=org/b`) {
		t.Error(out.String())
	}
}

func TestReloadKeepsTheRunner(t *testing.T) {
	r := started(t, newTestHost(t, WithLogger(quiet)), "org/lives", manifestOf(t, "fixture-wasm-go"), `{"n":1}`)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	config := do(`{"do":"config"}`)
	for i, of := range []string{"fixture-grpc-go", "fixture-wasm-go"} {
		want := fmt.Sprintf(`{"n":%d}`, i+2)
		if err := r.Reload(ctx, manifestOf(t, of), json.RawMessage(want)); err != nil {
			t.Fatal(err)
		}
		if got := called(t, r, config); got != want {
			t.Error(got)
		}
		if err := r.Reload(ctx, manifestOf(t, of), nil); err != nil {
			t.Fatal(err)
		}
		if got := called(t, r, config); got != want {
			t.Errorf("%s, without a config: as before", got)
		}
	}
	err := r.Reload(ctx, manifestOf(t, "fixture-wasm-go"), json.RawMessage(`{"fail":"I will not"}`))
	if !errors.Is(err, ErrStartFailed) || called(t, r, config) != `{"n":3}` {
		t.Error(err)
	}
}

func TestReloadNeedsAManifest(t *testing.T) {
	r := started(t, newTestHost(t, WithLogger(quiet)), "again", manifestOf(t, "wat-hostile"), "")
	if err := r.Reload(context.Background(), nil, nil); statusOf(err) != StatusInvalidArgument {
		t.Error(err)
	}
	if r.State() != StateRunning {
		t.Error(r.State())
	}
}
