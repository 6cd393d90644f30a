//go:build cgo && linux

package flowplug

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// inBothRuntimes runs a test with the fixture of either runtime.
func inBothRuntimes(t *testing.T, test func(t *testing.T, fixture string)) {
	for _, fixture := range []string{wasmFixture, grpcFixture} {
		t.Run(fixture, func(t *testing.T) { test(t, fixture) })
	}
}

func TestEveryHostFunctionSucceedsIsMissingAndFails(t *testing.T) {
	broken := errors.New("the disk is on fire")
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		api := &recorder{}
		r := started(t, newTestHost(t, WithHostAPI(api)), "org/fix", manifestOf(t, fixture), `{"agent":"from the config"}`)
		expect := func(fn, args, want string) {
			t.Helper()
			if got := called(t, r, asks(fn, args)); !strings.Contains(got, want) {
				t.Errorf("%s %s: %s, not %s", fn, args, got, want)
			}
		}
		// What is not overridden is the embedded default: the plugin's own config.
		expect("get_config", `{"key":"agent"}`, `{"value":"from the config"}`)
		api.set(func() { api.onConfig = func(context.Context, string) (string, error) { return "mine", nil } })
		expect("get_config", `{"key":"agent"}`, `{"value":"mine"}`)
		api.set(func() { api.onConfig = func(context.Context, string) (string, error) { return "", broken } })
		expect("get_config", `{"key":"agent"}`, broken.Error())
		api.set(func() { api.onConfig = func(context.Context, string) (string, error) { return "\xff", nil } })
		expect("get_config", `{"key":"agent"}`, "not UTF-8")

		expect("kv_get", `{"key":"k"}`, `{"missing":true}`)
		expect("kv_set", `{"key":"k","value":"v"}`, `{"done":true}`)
		if stored := hook(api, &api.kv); string(stored["plugin:org/fix:k"]) != "v" {
			t.Errorf("%q", stored)
		}
		expect("kv_get", `{"key":"k"}`, `{"value":"v"}`)
		expect("kv_set", `{"key":"k","value":""}`, `{"done":true}`)
		expect("kv_get", `{"key":"k"}`, `{"value":""}`)
		expect("kv_delete", `{"key":"k"}`, `{"done":true}`)
		expect("kv_get", `{"key":"k"}`, `{"missing":true}`)
		api.set(func() { api.onGet = func(context.Context, string) ([]byte, error) { return nil, ErrNotFound } })
		expect("kv_get", `{"key":"k"}`, `{"missing":true}`)
		api.set(func() { api.onSet = func(context.Context, string, []byte) error { return broken } })
		expect("kv_set", `{"key":"k","value":"v"}`, broken.Error())
		api.set(func() { api.onDelete = func(context.Context, string) error { return broken } })
		expect("kv_delete", `{"key":"k"}`, broken.Error())

		expect("log", `{"level":2,"message":"careful","fields":{"why":"test"}}`, `{"done":true}`)
		eventually(t, "the record", func() bool { return api.logged("org/fix warn careful map[why:test]") })

		expect("emit_event", `{"event_type":"thing.made","source":"fixture","data":{"a":1}}`, `{"done":true}`)
		if e := hook(api, &api.events)[0]; e.EventType != "thing.made" || e.Source != "fixture" || string(e.Data) != `{"a":1}` {
			t.Errorf("%+v", e)
		}
		api.set(func() { api.onEvent = func(context.Context, DataEvent) error { return broken } })
		expect("emit_event", `{"event_type":"x","data":{}}`, broken.Error())
	})
}

func TestHTTPGoesThroughTheHostAPI(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		port := r.Host[strings.LastIndex(r.Host, ":"):]
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "http://localhost"+port+"/", http.StatusFound)
		case "/on":
			http.Redirect(w, r, "/end", http.StatusFound)
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", r.Header.Get("X-Sent"))
			_, _ = w.Write(append([]byte("got "), body...))
		}
	}))
	defer site.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		api := &recorder{onHTTP: fetch}
		r := started(t, newTestHost(t, WithHostAPI(api)), "web", manifestOf(t, fixture), "")
		get := func(url string) string {
			return called(t, r, asks("http_request", `{"method":"POST","url":"`+url+`","headers":{"X-Sent":"h"},"body":"this"}`))
		}
		if got := get(site.URL + "/"); !strings.Contains(got, `"status":200`) || !strings.Contains(got, "got this") || !strings.Contains(got, `"h"`) {
			t.Error(got)
		}
		if got := get(site.URL + "/on"); !strings.Contains(got, `"status":200`) {
			t.Error(got)
		}
		if got := get(site.URL + "/away"); !strings.Contains(got, `"error"`) || strings.Contains(got, `"status"`) {
			t.Errorf("a redirect past the allowlist: %s", got)
		}
		// The allowlist stands before the callback, too.
		if got := get("http://example.com/"); !strings.Contains(got, `"error"`) {
			t.Error(got)
		}
		api.set(func() {
			api.onHTTP = func(context.Context, *HostHTTPRequest) (*HostHTTPResponse, error) {
				return &HostHTTPResponse{Status: 7}, nil
			}
		})
		if got := get(site.URL + "/"); !strings.Contains(got, `"error"`) {
			t.Errorf("a status that is none: %s", got)
		}
		api.set(func() {
			api.onHTTP = func(context.Context, *HostHTTPRequest) (*HostHTTPResponse, error) { return nil, nil }
		})
		if got := get(site.URL + "/"); !strings.Contains(got, "neither") {
			t.Errorf("nothing at all: %s", got)
		}
	})
}

// fetch performs a request as a program would.
func fetch(ctx context.Context, asked *HostHTTPRequest) (*HostHTTPResponse, error) {
	req, err := http.NewRequestWithContext(ctx, asked.Method, asked.URL, strings.NewReader(string(asked.Body)))
	if err != nil {
		return nil, err
	}
	for name, value := range asked.Headers {
		req.Header.Set(name, value)
	}
	res, err := HTTPClient(ctx).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &HostHTTPResponse{Status: res.StatusCode, Headers: map[string]string{"X-Seen": res.Header.Get("X-Seen")}, Body: body}, err
}

func TestTheHTTPClientIsForItsRequestAlone(t *testing.T) {
	if _, err := HTTPClient(context.Background()).Get("http://127.0.0.1/"); !errors.Is(err, ErrPermissionDenied) {
		t.Error(err)
	}
	var kept *http.Client
	api := &recorder{onHTTP: func(ctx context.Context, _ *HostHTTPRequest) (*HostHTTPResponse, error) {
		kept = HTTPClient(ctx)
		return &HostHTTPResponse{Status: 200}, nil
	}}
	r := started(t, newTestHost(t, WithHostAPI(api)), "web", manifestOf(t, wasmFixture), "")
	called(t, r, asks("http_request", `{"method":"GET","url":"http://127.0.0.1/"}`))
	if _, err := kept.Get("http://127.0.0.1/"); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("after the request: %v", err)
	}
}

func TestTheMethodKnowsWhoAsks(t *testing.T) {
	api := &recorder{onGet: func(ctx context.Context, _ string) ([]byte, error) {
		identity, function := PluginFromContext(ctx)
		return []byte(identity + " in " + function), nil
	}}
	r := started(t, newTestHost(t, WithHostAPI(api)), "org/who", manifestOf(t, wasmFixture), "")
	if got := called(t, r, asks("kv_get", `{"key":"k"}`)); !strings.Contains(got, "org/who in command") {
		t.Error(got)
	}
}

func TestTheContextOfACallReachesTheHostAPI(t *testing.T) {
	type key struct{}
	var late context.Context
	api := &recorder{onGet: func(ctx context.Context, _ string) ([]byte, error) {
		late = ctx
		value, _ := ctx.Value(key{}).(string)
		if _, ok := ctx.Deadline(); !ok {
			value += " without a deadline"
		}
		return []byte(value), ctx.Err()
	}}
	r := started(t, newTestHost(t, WithHostAPI(api)), "ctx", manifestOf(t, wasmFixture), "")
	ctx := context.WithValue(context.Background(), key{}, "carried")
	result, err := r.Call(ctx, "command", asks("kv_get", `{"key":"k"}`))
	if err != nil || string(result) != `{"value":"carried"}` {
		t.Errorf("%s %v", result, err)
	}
	if late.Err() == nil {
		t.Error("the method's context did not end with the method")
	}
}

func TestAPanicInTheHostAPIFailsTheRequestAlone(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		api := &recorder{onSet: func(context.Context, string, []byte) error { panic("boom") }}
		r := started(t, newTestHost(t, WithHostAPI(api), WithLogger(quiet)), "p", manifestOf(t, fixture), "")
		if got := called(t, r, asks("kv_set", `{"key":"k","value":"v"}`)); !strings.Contains(got, "boom") {
			t.Error(got)
		}
		if got := called(t, r, do(`{"do":"echo"}`)); !strings.Contains(got, "echo") {
			t.Error(got)
		}
	})
}

func TestARunnerMayHaveAHostAPIOfItsOwn(t *testing.T) {
	named := func(name string) *recorder {
		return &recorder{onGet: func(context.Context, string) ([]byte, error) { return []byte(name), nil }}
	}
	h := newTestHost(t, WithHostAPI(named("the host's")))
	m := manifestOf(t, wasmFixture)
	ours := started(t, h, "a", m, "")
	own := started(t, h, "b", m, "", WithRunnerHostAPI(named("its own")))
	if a, b := called(t, ours, asks("kv_get", `{"key":"k"}`)), called(t, own, asks("kv_get", `{"key":"k"}`)); a == b || !strings.Contains(b, "its own") {
		t.Errorf("%s %s", a, b)
	}
}

func TestWithoutAHostAPITheDefaultsServe(t *testing.T) {
	events := make(chan Event, 64)
	h := newTestHost(t, WithLogger(quiet), WithEvents(func(e Event) { events <- e }))
	r := started(t, h, "plain", manifestOf(t, wasmFixture), `{"a":"b"}`)
	called(t, r, asks("kv_set", `{"key":"k","value":"v"}`))
	if got := called(t, r, asks("kv_get", `{"key":"k"}`)); got != `{"value":"v"}` {
		t.Error(got)
	}
	if got := called(t, r, asks("get_config", `{"key":"a"}`)); got != `{"value":"b"}` {
		t.Error(got)
	}
	eventually(t, "the event that it runs", func() bool {
		select {
		case e := <-events:
			if !json.Valid(e.Raw) {
				t.Errorf("%s", e.Raw)
			}
			return e.Plugin == "plain" && e.State == StateRunning
		default:
			return false
		}
	})
}
