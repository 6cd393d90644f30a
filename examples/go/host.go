package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// services is what plugins may ask of this program. What is not overridden is the library's: a plugin's config here.
type services struct {
	flowplug.UnimplementedHostAPI
	account *account

	mu     sync.Mutex // methods are called from many goroutines
	kv     map[string][]byte
	events int
}

// created counts the events bookmark.created that came.
func (s *services) created() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events
}

func (s *services) GetConfig(ctx context.Context, key string) (string, error) {
	s.account.trace("get_config %s", key)
	return s.UnimplementedHostAPI.GetConfig(ctx, key)
}

func (s *services) Log(ctx context.Context, level, msg string, _ map[string]string) {
	if identity, _ := flowplug.PluginFromContext(ctx); identity != "" && level != "debug" {
		s.account.trace("log %s %s", level, msg)
	}
}

func (s *services) KVGet(ctx context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	value, found := s.kv[key]
	s.mu.Unlock()
	if !found {
		s.account.trace("kv_get %s (missing)", short(ctx, key))
		return nil, flowplug.ErrNotFound
	}
	s.account.trace("kv_get %s", short(ctx, key))
	return value, nil
}

func (s *services) KVSet(ctx context.Context, key string, value []byte) error {
	s.account.trace("kv_set %s", short(ctx, key))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kv[key] = value
	return nil
}

func (s *services) KVDelete(ctx context.Context, key string) error {
	s.account.trace("kv_delete %s", short(ctx, key))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kv, key)
	return nil
}

func (s *services) HTTPRequest(ctx context.Context, r *flowplug.HostHTTPRequest) (*flowplug.HostHTTPResponse, error) {
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
	body, err := io.ReadAll(io.LimitReader(response.Body, 10<<20))
	if err != nil {
		return nil, err
	}
	s.account.trace("http %s %s %d", r.Method, r.URL, response.StatusCode)
	headers := map[string]string{}
	for name := range response.Header {
		headers[name] = response.Header.Get(name)
	}
	return &flowplug.HostHTTPResponse{Status: response.StatusCode, Headers: headers, Body: body}, nil
}

func (s *services) EmitEvent(_ context.Context, e flowplug.DataEvent) error {
	s.account.trace("event %s", e.EventType)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.EventType == "bookmark.created" {
		s.events++
	}
	return nil
}

// short is a key as the plugin wrote it: it comes as plugin:<identity>:<key>.
func short(ctx context.Context, key string) string {
	identity, _ := flowplug.PluginFromContext(ctx)
	return strings.TrimPrefix(key, "plugin:"+identity+":")
}

// account is what a person reads: each step with its time, what came back, and below it what the plugin asked meanwhile.
type account struct {
	mu        sync.Mutex
	asked     []string
	surprises int
}

func (a *account) trace(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, fmt.Sprintf(format, args...))
}

func (a *account) tell(step string, since time.Time, what string) {
	took := time.Since(since)
	shown := fmt.Sprintf("%.1f s", took.Seconds())
	if took < time.Millisecond {
		shown = fmt.Sprintf("%d µs", took.Microseconds())
	} else if took < time.Second {
		shown = fmt.Sprintf("%.1f ms", took.Seconds()*1e3)
	}
	fmt.Println(strings.TrimRight(fmt.Sprintf("   %-8s %-8s %s", step, shown, what), " "))
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) > 0 {
		fmt.Println("              host: " + strings.Join(a.asked, " · "))
		a.asked = nil
	}
}

func (a *account) expect(held bool, what string) {
	if !held {
		a.surprise("not as expected: %s", what)
	}
}

func (a *account) surprise(format string, args ...any) {
	a.surprises++
	fmt.Printf("   UNEXPECTED: "+format+"\n", args...)
}
