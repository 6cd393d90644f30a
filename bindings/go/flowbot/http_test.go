// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/flowbot"
)

// web is a HostAPI whose requests keep to the plugin's permissions.http, redirects included.
type web struct{ plugin.HostAPI }

func (web) HTTPRequest(ctx context.Context, asked *plugin.HostHTTPRequest) (*plugin.HostHTTPResponse, error) {
	request, err := http.NewRequestWithContext(ctx, asked.Method, asked.URL, bytes.NewReader(asked.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range asked.Headers {
		request.Header.Set(name, value)
	}
	// With a client of its own it would follow redirects to wherever they lead.
	answer, err := flowplug.HTTPClient(ctx).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return &plugin.HostHTTPResponse{Status: answer.StatusCode, Body: body}, err
}

// A HostAPI that makes requests with net/http takes the client that knows what the plugin may ask for.
func ExampleNewRunner_httpRequest() {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<title>Flow</title>")
	}))
	defer site.Close()
	host, err := flowplug.NewHost(flowplug.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	manifest := &plugin.Manifest{
		Name: "bookmarks", Runtime: plugin.RuntimeWasm, Wasm: &plugin.WasmConfig{
			Module:      "plugin.wasm",
			Permissions: &plugin.WasmPermissions{HTTP: []plugin.HTTPPermission{{Host: "127.0.0.1"}}},
		},
		Provides: plugin.Provides{Abilities: []plugin.AbilityDecl{{Capability: "bookmark", Operations: []string{"create"}}}},
	}
	ctx := context.Background()
	folder := filepath.Join("..", "..", "..", "target", "plugins", "bookmark-wasm-go")
	runner, err := flowbot.NewRunner(host, "bookmarks", folder, manifest, web{newServices()})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := runner.Load(ctx, manifest); err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx, json.RawMessage(`{"user_agent": "flowbot"}`)); err != nil {
		log.Fatal(err)
	}
	answer, err := runner.Call(ctx, "ability_call", json.RawMessage(`{"operation": "create", "params": {"url": "`+site.URL+`"}}`))
	fmt.Println(strings.Contains(string(answer), `Saved \"Flow\"`), err)
	fmt.Println(runner.Stop(ctx))
	// Output:
	// true <nil>
	// <nil>
}

// library is a HostAPI that leaves requests to the library.
type library struct{ plugin.HostAPI }

func (library) HTTPRequest(context.Context, *plugin.HostHTTPRequest) (*plugin.HostHTTPResponse, error) {
	return nil, flowplug.ErrUseDefault
}

func TestARedirectLeadsToNoHostThatIsNotAllowed(t *testing.T) {
	var away atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { away.Add(1) }))
	defer elsewhere.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
		case "/on":
			http.Redirect(w, r, "/end", http.StatusFound)
		default:
			_, _ = io.WriteString(w, "got "+r.URL.Path)
		}
	}))
	defer site.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	granting := flowplug.WithRunnerPolicy(map[string]any{"preset": "trusted", "http_private": []string{"127.0.0.1"}})
	for runtime, name := range fixtures {
		for who, api := range map[string]plugin.HostAPI{"flowplug.HTTPClient": web{newServices()}, "flowplug.ErrUseDefault": library{newServices()}} {
			t.Run(runtime+"/"+who, func(t *testing.T) {
				folder := built(t, name)
				r, err := flowbot.NewRunner(newHost(t), "web", folder, manifestOf(t, folder), api, granting)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.Load(t.Context(), manifestOf(t, folder)); err != nil {
					t.Fatal(err)
				}
				if err := r.Start(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				get := func(path string) string {
					answer, err := tell(r, `{"do":"host","fn":"http_request","args":{"method":"GET","url":"`+site.URL+path+`"}}`)
					if err != nil {
						t.Error(err)
					}
					return answer
				}
				if got := get("/on"); !strings.Contains(got, `"status":200`) || !strings.Contains(got, "got /end") {
					t.Error("a redirect within the allowlist:", got)
				}
				if got := get("/away"); !strings.Contains(got, "permissions.http") || away.Load() != 0 {
					t.Errorf("a redirect past the allowlist, followed %d times: %s", away.Load(), got)
				}
			})
		}
	}
}
