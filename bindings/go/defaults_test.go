//go:build cgo && linux

package flowplug

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
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
