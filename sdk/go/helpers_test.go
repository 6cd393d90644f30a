package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/flowplug/flowplug/sdk/go"
	"github.com/flowplug/flowplug/sdk/go/hosthttp"
	"github.com/flowplug/flowplug/sdk/go/plugintest"
)

type point struct{ X, Y int }

func TestValuesAreStoredAndLoaded(t *testing.T) {
	host := plugintest.NewHost()
	ctx := sdk.WithHost(t.Context(), host)
	if _, found, err := sdk.Load[point](ctx, "p"); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if err := sdk.Store(ctx, "p", point{1, 2}); err != nil {
		t.Error(err)
	}
	if got, found, err := sdk.Load[point](ctx, "p"); !found || err != nil || got != (point{1, 2}) {
		t.Errorf("%v, %v, %v", got, found, err)
	}
	host.Set("p", "[")
	if _, found, err := sdk.Load[point](ctx, "p"); found || err == nil || !strings.Contains(err.Error(), "what is stored as p") {
		t.Errorf("%v, %v", found, err)
	}
	if err := sdk.Store(ctx, "q", make(chan int)); err == nil {
		t.Error("a channel was stored")
	}
	host.Fail("kv_get", "the store is gone")
	var refused *sdk.HostError
	if _, _, err := sdk.Load[point](ctx, "p"); !errors.As(err, &refused) || refused.Message != "the store is gone" {
		t.Error(err)
	}
}

// configured is a plugin that answers what it reads of its config.
type configured struct{ sdk.ModuleBase }

func (configured) Command(ctx context.Context, _ sdk.Context, _ json.RawMessage) (any, error) {
	text, there, err := sdk.Config[string](ctx, "text")
	number, found, failed := sdk.Config[int](ctx, "number")
	list, has, wrong := sdk.Config[[]point](ctx, "list")
	_, missing, odd := sdk.Config[int](ctx, "missing")
	_, _, bad := sdk.Config[int](ctx, "text")
	if err := errors.Join(err, failed, wrong, odd); err != nil || bad == nil {
		return nil, err
	}
	return []any{text, there, number, found, list, has, missing}, nil
}

func TestConfigIsTyped(t *testing.T) {
	config := json.RawMessage(`{"text":"twelve","number":7,"list":[{"X":1,"Y":2}]}`)
	got, err := plugintest.Start(t, configured{}, plugintest.NewHost(), config).Call("command", nil)
	if err != nil || string(got) != `["twelve",true,7,true,[{"X":1,"Y":2}],true,false]` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestOperationsAreTyped(t *testing.T) {
	plugin := struct {
		sdk.ModuleBase
		sdk.Operations
	}{Operations: sdk.Operations{
		"sum":  sdk.Op(func(_ context.Context, p point) (any, error) { return p.X + p.Y, nil }),
		"fail": sdk.Op(func(context.Context, struct{}) (any, error) { return nil, errors.New("no") }),
	}}
	for params, want := range map[string]string{
		`{"operation":"sum","params":{"X":1,"Y":2}}`: "3",
		`{"operation":"sum","params":null}`:          "0",
		`{"operation":"sum"}`:                        "0",
		`{"operation":"sum","params":[1]}`:           "error: the params do not have the shape",
		`{"operation":"fail"}`:                       "error: no",
		`{"operation":"other"}`:                      `error: no operation "other": there are fail, sum`,
	} {
		got, err := sdk.Call(t.Context(), plugin, "ability_call", json.RawMessage(params))
		if err != nil {
			got = []byte("error: " + err.Error())
		}
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %s", params, got)
		}
	}
}

func TestRecordsOfSlogGoToTheHost(t *testing.T) {
	host := plugintest.NewHost()
	logger := sdk.Logger(sdk.WithHost(t.Context(), host)).With("a", 1).WithGroup("http").With(slog.Int("status", 200))
	logger.Debug("one", "b", true, slog.Group("deep", "c", "d"), slog.Group("", "flat", 1))
	logger.Info("two")
	logger.Warn("three")
	logger.Error("four")
	other := plugintest.NewHost()
	logger.InfoContext(sdk.WithHost(t.Context(), other), "elsewhere")

	records := host.Records()
	if len(records) != 4 || len(other.Records()) != 1 {
		t.Fatalf("%v, %v", records, other.Records())
	}
	for i, want := range []sdk.Level{sdk.LevelDebug, sdk.LevelInfo, sdk.LevelWarn, sdk.LevelError} {
		if records[i].Level != want {
			t.Errorf("%v", records[i])
		}
	}
	want := map[string]string{"a": "1", "http.status": "200", "http.b": "true", "http.deep.c": "d", "http.flat": "1"}
	if !maps.Equal(records[0].Fields, want) {
		t.Error(records[0].Fields)
	}
	// What a logger was made with is its own: two made of one do not write into each other.
	left, right := logger.With("side", "left"), logger.With("side", "right")
	left.Info("l")
	right.Info("r")
	if all := host.Records(); all[4].Fields["http.side"] != "left" || all[5].Fields["http.side"] != "right" {
		t.Error(all[4:])
	}
}

func TestWhatIsWrittenForNetHTTPGoesThroughTheHost(t *testing.T) {
	host := plugintest.NewHost()
	host.HandleFunc("POST https://api.example.com/items", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Got", r.Header.Get("X-Sent"))
		w.Header().Add("X-Got", "again")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(append(body, '!'))
	})
	host.HandleFunc("GET api.example.com/old", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example.com/", http.StatusFound)
	})
	client := hosthttp.Client(sdk.WithHost(t.Context(), host))
	request, err := http.NewRequest(http.MethodPost, "https://api.example.com/items", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Sent", "x")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "body!" || response.StatusCode != 201 || response.Status != "201 Created" || response.Header.Get("X-Got") != "x, again" {
		t.Errorf("%s %v %v", body, response, err)
	}
	// The host judges where a redirect leads.
	var refused *sdk.HostError
	if _, err := client.Get("https://api.example.com/old"); !errors.As(err, &refused) || !strings.Contains(refused.Message, "elsewhere.example.com") {
		t.Error(err)
	}
	if n := len(host.Requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}
