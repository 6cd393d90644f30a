//go:build cgo && linux

package flowplug

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// What the library answers by itself, where nothing in Go does.

func TestTheEmbeddedHTTPClient(t *testing.T) {
	var away atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { away.Add(1) }))
	defer elsewhere.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
		case "/on":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", r.Header.Get("X-Sent"))
			_, _ = w.Write(append([]byte("got "), body...))
		}
	}))
	defer site.Close()
	granting := map[string]any{"default": map[string]any{"preset": "trusted", "http_private": []string{"127.0.0.1"}}}
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		request := func(url string) json.RawMessage {
			return asks("http_request", `{"method":"POST","url":"`+url+`","headers":{"X-Sent":"h"},"body":"this"}`)
		}
		r := started(t, newTestHost(t, WithPolicy(granting)), "web", manifestOf(t, fixture), "")
		for _, path := range []string{"/", "/on"} {
			got := called(t, r, request(site.URL+path))
			if !strings.Contains(got, `"status":200`) || !strings.Contains(got, "got this") || !strings.Contains(got, `"h"`) {
				t.Error(got)
			}
		}
		if got := called(t, r, request(site.URL+"/away")); !strings.Contains(got, "permissions.http") || away.Load() != 0 {
			t.Errorf("a redirect past the allowlist: %s", got)
		}
		// No policy grants what is not public by itself.
		r = started(t, newTestHost(t), "web", manifestOf(t, fixture), "")
		if got := called(t, r, request(site.URL)); !strings.Contains(got, "http_private") {
			t.Errorf("an address that is not public: %s", got)
		}
	})
}

func TestAStoreInAFileOutlivesItsHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kv")
	want := `"missing":true`
	for range 2 {
		h := newTestHost(t, WithKVPath(path))
		if second, err := NewHost(WithKVPath(path)); !errors.Is(err, ErrIO) {
			t.Errorf("a second host: %v, %v", second, err)
		}
		r := started(t, h, "keeper", manifestOf(t, wasmFixture), "")
		if got := called(t, r, asks("kv_get", `{"key":"k"}`)); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		called(t, r, asks("kv_set", `{"key":"k","value":"kept"}`))
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		want = `"value":"kept"`
	}
}

func TestAFileOfCertificatesIsReadWhenTheHostIsMade(t *testing.T) {
	if _, err := NewHost(WithHTTPCertificates(filepath.Join(t.TempDir(), "none.pem"))); !errors.Is(err, ErrIO) {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	h := newTestHost(t)
	wasm, grpc := started(t, h, "m/wasm", manifestOf(t, wasmFixture), ""), started(t, h, "m/grpc", manifestOf(t, grpcFixture), "")
	for _, r := range []*Runner{wasm, grpc} {
		for range 10 {
			called(t, r, asks("kv_get", `{"key":"k"}`))
		}
		if _, err := r.Call(t.Context(), "no_such_function", nil); err == nil {
			t.Error("there is such a function")
		}
	}
	var text strings.Builder
	if err := h.Metrics(&text); err != nil {
		t.Fatal(err)
	}
	// Collected, they would be counted no longer.
	runtime.KeepAlive(wasm)
	runtime.KeepAlive(grpc)
	for _, want := range []string{
		"flowplug_plugin_up{plugin=\"m/wasm\"} 1\n",
		"flowplug_calls_in_flight{plugin=\"m/grpc\"} 0\n",
		"flowplug_call_errors_total{plugin=\"m/grpc\",code=\"unknown_function\"} 1\n",
		"flowplug_call_duration_seconds_count{plugin=\"m/grpc\"} 1",
		"flowplug_instances{plugin=\"m/wasm\",state=\"idle\"} 1\n",
		"# TYPE flowplug_call_duration_seconds histogram\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	for _, line := range strings.Split(text.String(), "\n") {
		// A process has megabytes, a module 64 KiB at least; ten calls were made. What is not found was not called.
		name, value, _ := strings.Cut(line, " ")
		if strings.HasPrefix(name, "flowplug_memory_bytes{") && len(value) < 5 || strings.HasPrefix(name, "flowplug_calls_total{") && len(value) != 2 {
			t.Error(line)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Metrics(&text); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
}
