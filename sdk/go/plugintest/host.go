package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"

	sdk "github.com/flowplug/flowplug/sdk/go"
)

// Host is a host for tests: a key-value store in memory, the plugin's config, HTTP by handlers, and a record of what the plugin logged, emitted
// and fetched. It can be used from any goroutine, and by several plugins one after the other.
type Host struct {
	mu       sync.Mutex
	kv       map[string][]byte
	config   map[string]json.RawMessage
	failures map[string]error
	mux      *http.ServeMux
	records  []Record
	events   []sdk.DataEvent
	requests []sdk.HTTPRequest
}

var _ sdk.HostAPI = (*Host)(nil)

// Record is what a plugin logged.
type Record struct {
	Level   sdk.Level
	Message string
	Fields  map[string]string
}

// NewHost makes a host with an empty store, which no request leaves.
func NewHost() *Host {
	return &Host{kv: map[string][]byte{}, failures: map[string]error{}, mux: http.NewServeMux()}
}

// HandleFunc has a function answer the plugin's requests that match the pattern, which is one of http.ServeMux with a scheme that may be
// there: "GET https://api.example.com/items/{id}", "example.com/". A host's port is not part of it. Requests that match none are denied.
func (h *Host) HandleFunc(pattern string, handler http.HandlerFunc) { h.Handle(pattern, handler) }

// Handle is HandleFunc for an http.Handler.
func (h *Host) Handle(pattern string, handler http.Handler) {
	method, rest, found := strings.Cut(pattern, " ")
	if !found {
		method, rest = "", pattern
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(rest), "https://"), "http://")
	h.mux.Handle(strings.TrimSpace(method+" "+rest), handler)
}

// Fail has a host function fail with this text from now on; an empty text has it work again. The names are get_config, kv_get, kv_set,
// kv_delete, http_request and emit_event.
func (h *Host) Fail(function, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text == "" {
		delete(h.failures, function)
		return
	}
	h.failures[function] = &sdk.HostError{Function: function, Message: text}
}

// Set puts a value into the store, as another instance of the plugin would have.
func (h *Host) Set(key, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kv[key] = []byte(value)
}

// Get returns a value of the store, and whether there is one.
func (h *Host) Get(key string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	value, found := h.kv[key]
	return string(value), found
}

// Keys returns the keys of the store, in order.
func (h *Host) Keys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.kv))
}

// Records returns what was logged, in order.
func (h *Host) Records() []Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.records)
}

// Events returns what was emitted, in order.
func (h *Host) Events() []sdk.DataEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// Requests returns what was fetched, in order, with what was denied.
func (h *Host) Requests() []sdk.HTTPRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// GetConfig answers from the config that the plugin was started with.
func (h *Host) GetConfig(ctx context.Context, key string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(ctx, "get_config"); err != nil {
		return "", err
	}
	raw := h.config[key]
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	return string(raw), nil
}

// Log keeps a record.
func (h *Host) Log(_ context.Context, level sdk.Level, message string, fields map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, Record{level, message, maps.Clone(fields)})
}

// KVGet reads from the store.
func (h *Host) KVGet(ctx context.Context, key string) ([]byte, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(ctx, "kv_get"); err != nil {
		return nil, false, err
	}
	value, found := h.kv[key]
	if !found {
		return nil, false, nil
	}
	return append([]byte{}, value...), true, nil
}

// KVSet writes to the store.
func (h *Host) KVSet(ctx context.Context, key string, value []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(ctx, "kv_set"); err != nil {
		return err
	}
	h.kv[key] = bytes.Clone(value)
	return nil
}

// KVDelete removes from the store.
func (h *Host) KVDelete(ctx context.Context, key string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(ctx, "kv_delete"); err != nil {
		return err
	}
	delete(h.kv, key)
	return nil
}

// HTTPRequest has the handler of the address answer. It does not follow redirects.
func (h *Host) HTTPRequest(ctx context.Context, asked *sdk.HTTPRequest) (*sdk.HTTPResponse, error) {
	request, err := h.admit(ctx, asked)
	if err != nil {
		return nil, err
	}
	answer := httptest.NewRecorder()
	h.mux.ServeHTTP(answer, request) // outside of the lock: a handler may ask this Host
	response := &sdk.HTTPResponse{Status: answer.Code, Headers: map[string]string{}, Body: answer.Body.Bytes()}
	for name, values := range answer.Result().Header {
		response.Headers[name] = strings.Join(values, ", ")
	}
	return response, nil
}

// admit keeps a request, and makes it the one that its handler gets.
func (h *Host) admit(ctx context.Context, asked *sdk.HTTPRequest) (*http.Request, error) {
	const function = "http_request"
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := *asked
	kept.Headers, kept.Body = maps.Clone(asked.Headers), bytes.Clone(asked.Body)
	if kept.Method == "" {
		kept.Method = http.MethodGet
	}
	h.requests = append(h.requests, kept)
	if err := h.refusal(ctx, function); err != nil {
		return nil, err
	}
	address, err := url.Parse(asked.URL)
	if err != nil || address.Host == "" || (address.Scheme != "http" && address.Scheme != "https") {
		return nil, refused(function, fmt.Errorf("%q is not an absolute address of http or https", asked.URL))
	}
	request, err := http.NewRequestWithContext(ctx, kept.Method, asked.URL, bytes.NewReader(kept.Body))
	if err != nil {
		return nil, refused(function, err)
	}
	for name, value := range asked.Headers {
		request.Header.Set(name, value)
	}
	if _, pattern := h.mux.Handler(request); pattern == "" {
		return nil, refused(function, fmt.Errorf("permission denied: the test has no handler for %s %s", kept.Method, asked.URL))
	}
	return request, nil
}

// EmitEvent keeps an event, as it comes out of JSON.
func (h *Host) EmitEvent(ctx context.Context, event sdk.DataEvent) error {
	const function = "emit_event"
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(ctx, function); err != nil {
		return err
	}
	var kept sdk.DataEvent
	text, err := json.Marshal(event)
	if err = errors.Join(err, json.Unmarshal(text, &kept)); err != nil {
		return refused(function, err)
	}
	h.events = append(h.events, kept)
	return nil
}

// refusal is why a host function fails now, nil if it does not.
func (h *Host) refusal(ctx context.Context, function string) error {
	if err := ctx.Err(); err != nil {
		return &ended{sdk.HostError{Function: function, Message: err.Error()}, err}
	}
	return h.failures[function]
}

// ended is the error of a host call whose ctx has ended, as errors.As and errors.Is know it.
type ended struct {
	sdk.HostError
	cause error
}

func (e *ended) Unwrap() []error { return []error{&e.HostError, e.cause} }

// refused is an error of the host as a plugin gets it.
func refused(function string, err error) error {
	return &sdk.HostError{Function: function, Message: err.Error()}
}
