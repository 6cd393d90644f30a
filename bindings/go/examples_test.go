//go:build cgo && linux

package flowplug_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// bookmarks is a host with a plugin of it that runs; closing the host ends both.
func bookmarks(opts ...flowplug.HostOption) (*flowplug.Host, *flowplug.Runner) {
	granted := json.RawMessage(`{"plugins": {"bookmarks": {"http": ["127.0.0.1"]}}}`)
	host, err := flowplug.NewHost(append([]flowplug.HostOption{flowplug.WithPolicy(granted)}, opts...)...)
	if err != nil {
		log.Fatal(err)
	}
	manifest, err := flowplug.ReadManifest(built("bookmark-wasm-c"))
	if err != nil {
		log.Fatal(err)
	}
	runner := host.NewRunner("bookmarks")
	if _, err := runner.Load(context.Background(), manifest); err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(context.Background(), json.RawMessage(`{"user_agent": "example"}`)); err != nil {
		log.Fatal(err)
	}
	return host, runner
}

// What went wrong is told by errors.Is; who said what stands in the Error.
func ExampleError() {
	host, plugin := bookmarks()
	defer host.Close()

	_, err := plugin.Call(context.Background(), "ability_call", json.RawMessage(`{"operation": "get", "params": {"id": "0"}}`))
	var failure *flowplug.Error
	if errors.Is(err, flowplug.ErrPlugin) && errors.As(err, &failure) {
		fmt.Printf("%s of %s: %s\n", failure.Function, failure.Plugin, failure.PluginMessage)
	}
	_, err = plugin.Call(context.Background(), "ability_call", json.RawMessage(`{"operation": "drop"}`))
	fmt.Println(errors.Is(err, flowplug.ErrNotFound), "- the manifest does not declare it")
	_, err = plugin.Call(context.Background(), "no_such_function", nil)
	fmt.Println(errors.Is(err, flowplug.ErrUnknownFunction))
	// Output:
	// ability_call of bookmarks: no bookmark with id 0
	// true - the manifest does not declare it
	// true
}

// A context ends a call, whatever the plugin does.
func ExampleRunner_Call() {
	host, err := flowplug.NewHost(flowplug.WithPolicy("trusted"))
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	manifest, err := flowplug.ReadManifest(built("c-fixture"))
	if err != nil {
		log.Fatal(err)
	}
	plugin := host.NewRunner("fixture")
	if _, err := plugin.Load(context.Background(), manifest); err != nil {
		log.Fatal(err)
	}
	if err := plugin.Start(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err = plugin.Call(ctx, "command", json.RawMessage(`{"content": {"do": "spin"}}`))
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	answer, err := plugin.Call(context.Background(), "command", json.RawMessage(`{"content": {"do":"echo"}}`))
	fmt.Println(string(answer), err)
	// Output:
	// true
	// {"do":"echo"} <nil>
}

// What is called often is resolved once.
func ExampleRunner_Function() {
	host, plugin := bookmarks()
	defer host.Close()

	// The answer is parsed below, so the library need not check it first.
	help, err := plugin.Function("help", flowplug.TrustJSON())
	if err != nil {
		log.Fatal(err)
	}
	defer help.Close()
	for range 3 {
		answer, err := help.Call(context.Background(), nil)
		if err != nil {
			log.Fatal(err)
		}
		var topics map[string][]string
		if err := json.Unmarshal(answer, &topics); err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(topics["bookmark"]))
	}
	// Output:
	// 3
	// 3
	// 3
}

// web answers plugins' HTTP requests itself; the rest is the library's.
type web struct{ flowplug.UnimplementedHostAPI }

func (web) HTTPRequest(ctx context.Context, r *flowplug.HostHTTPRequest) (*flowplug.HostHTTPResponse, error) {
	identity, function := flowplug.PluginFromContext(ctx)
	fmt.Printf("%s fetches in %s\n", identity, function)
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.Headers {
		request.Header.Set(name, value)
	}
	// This client asks the plugin's allowlist again at every redirect.
	response, err := flowplug.HTTPClient(ctx).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return &flowplug.HostHTTPResponse{Status: response.StatusCode, Body: body}, err
}

// A HostAPI answers what plugins ask, and sees who asks.
func ExampleHostAPI() {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<title>Flow</title>")
	}))
	defer site.Close()
	host, plugin := bookmarks(flowplug.WithHostAPI(web{}), flowplug.WithLogger(slog.New(slog.DiscardHandler)))
	defer host.Close()

	params, err := json.Marshal(map[string]any{"operation": "create", "params": map[string]string{"url": site.URL}})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := plugin.Call(context.Background(), "ability_call", params)
	fmt.Println(strings.Contains(string(answer), `Saved \"Flow\"`), err)
	// Output:
	// bookmarks fetches in ability_call
	// true <nil>
}

// Records of plugins and of the library go to a logger of log/slog.
func ExampleWithLogger() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "id" || a.Key == "url" {
			return slog.Attr{}
		}
		return a
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	host, plugin := bookmarks(flowplug.WithLogger(logger), flowplug.WithHostAPI(titled{}))
	defer host.Close()

	if _, err := plugin.Call(context.Background(), "ability_call", json.RawMessage(`{"operation":"create","params":{"url":"http://127.0.0.1/"}}`)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=INFO msg="bookmark created" plugin=bookmarks
}

// titled answers every request with the same page.
type titled struct{ flowplug.UnimplementedHostAPI }

func (titled) HTTPRequest(context.Context, *flowplug.HostHTTPRequest) (*flowplug.HostHTTPResponse, error) {
	return &flowplug.HostHTTPResponse{Status: 200, Body: []byte("<title>Flow</title>")}, nil
}

// Events tell what becomes of a plugin.
func ExampleWithEvents() {
	events := make(chan flowplug.Event, 100)
	host, plugin := bookmarks(flowplug.WithEvents(func(e flowplug.Event) {
		if e.State != "" {
			events <- e
		}
	}))
	if err := plugin.Stop(context.Background()); err != nil {
		log.Fatal(err)
	}
	// When the host is closed, nothing calls back any more.
	if err := host.Close(); err != nil {
		log.Fatal(err)
	}
	close(events)
	for e := range events {
		fmt.Println(e.Plugin, e.Type, e.State)
	}
	// Output:
	// bookmarks loaded loading
	// bookmarks started running
	// bookmarks stopping stopping
	// bookmarks stopped stopped
}

// A config is checked before a plugin sees it, and every violation is told.
func ExampleManifest_ValidateConfig() {
	manifest, err := flowplug.ParseManifest([]byte(`
name: shop
runtime: wasm
wasm: { module: shop.wasm }
config_schema:
  type: object
  properties: { port: { type: integer }, name: { type: string } }
  required: [name]
`))
	if err != nil {
		log.Fatal(err)
	}
	err = manifest.ValidateConfig(json.RawMessage(`{"port": "http"}`))
	var failure *flowplug.Error
	if errors.Is(err, flowplug.ErrInvalidConfig) && errors.As(err, &failure) {
		var details struct {
			Violations []struct {
				At string `json:"instance_path"`
			}
		}
		if err := json.Unmarshal(failure.Details, &details); err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(details.Violations), "violations")
	}
	fmt.Println(manifest.ValidateConfig(json.RawMessage(`{"name": "corner"}`)))
	// Output:
	// 2 violations
	// <nil>
}

// An operator sees what a plugin asks for before it is loaded, and what would grant it.
func ExampleHost_Admit() {
	host, err := flowplug.NewHost()
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	manifest, err := flowplug.ReadManifest(built("bookmark-wasm-c"))
	if err != nil {
		log.Fatal(err)
	}
	admission, err := host.Admit("bookmarks", manifest)
	if err != nil {
		log.Fatal(err)
	}
	for _, wish := range admission.Requests {
		if !wish.Allowed {
			fmt.Println(wish.What, wish.Asked)
		}
	}
	fmt.Println(admission.Allowed)
	// Output:
	// http 127.0.0.1
	// false
}
