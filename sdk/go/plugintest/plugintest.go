package plugintest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	sdk "github.com/flowplug/flowplug/sdk/go"
)

// Plugin is a plugin that runs in a test. Its errors are the plugin's own, as a caller would see them.
type Plugin struct {
	tb     testing.TB
	module sdk.Module
	host   *Host
	ctx    context.Context
}

// Start starts a plugin with its config, nil for none, and fails the test if the plugin does not start. If the test fails later, what the
// plugin logged is printed.
func Start(tb testing.TB, module sdk.Module, host *Host, config any) *Plugin {
	tb.Helper()
	p, err := TryStart(tb, module, host, config)
	if err != nil {
		tb.Fatalf("the plugin does not start: %v", err)
	}
	return p
}

// TryStart is Start for a plugin that is meant to refuse its config: the error is that of Init.
func TryStart(tb testing.TB, module sdk.Module, host *Host, config any) (*Plugin, error) {
	tb.Helper()
	tb.Cleanup(func() {
		if !tb.Failed() {
			return
		}
		for _, record := range host.Records() {
			tb.Logf("plugin's log: [%s] %s %v", record.Level, record.Message, record.Fields)
		}
	})
	p := &Plugin{tb, module, host, tb.Context()}
	text := p.encoded(config)
	host.configure(text)
	_, err := p.Call("init", text)
	return p, err
}

// configure is what GetConfig answers from.
func (h *Host) configure(config json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = nil
	// A config that is no object has no keys.
	_ = json.Unmarshal(config, &h.config)
}

// In returns the same plugin, called with this ctx from now on: one that ends, or that has a deadline.
func (p *Plugin) In(ctx context.Context) *Plugin { return &Plugin{p.tb, p.module, p.host, ctx} }

// Call calls a function by its name, with params that marshal to JSON: see [sdk.Call].
func (p *Plugin) Call(function string, params any) (json.RawMessage, error) {
	p.tb.Helper()
	return sdk.Call(sdk.WithHost(p.ctx, p.host), p.module, function, p.encoded(params))
}

func (p *Plugin) encoded(value any) json.RawMessage {
	p.tb.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		p.tb.Fatalf("what the test gives to the plugin is not JSON: %v", err)
	}
	return text
}

// answer calls a function and reads what it answers.
func answer[A any](p *Plugin, function string, params any) (to A, err error) {
	p.tb.Helper()
	raw, err := p.Call(function, params)
	if err != nil {
		return to, err
	}
	if err := json.Unmarshal(raw, &to); err != nil {
		return to, fmt.Errorf("no host can read the plugin's answer to %s, %s: %w", function, raw, err)
	}
	return to, nil
}

// Message is what a plugin says to a person.
type Message struct {
	// Type is its kind, "TextMsg" for instance.
	Type string `json:"_type"`
	// Text is that of a TextMsg.
	Text string `json:"text"`
	// JSON is the whole.
	JSON json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps the whole.
func (m *Message) UnmarshalJSON(data []byte) error {
	type fields Message
	err := json.Unmarshal(data, (*fields)(m))
	m.JSON = append(json.RawMessage(nil), data...)
	return err
}

// Bootstrap calls the plugin's Bootstrap.
func (p *Plugin) Bootstrap() error {
	p.tb.Helper()
	_, err := p.Call("bootstrap", nil)
	return err
}

// IsReady calls the plugin's IsReady.
func (p *Plugin) IsReady() bool {
	p.tb.Helper()
	ready, err := answer[bool](p, "is_ready", nil)
	return err == nil && ready
}

// Command says something to the plugin.
func (p *Plugin) Command(who sdk.Context, content any) (Message, error) {
	p.tb.Helper()
	return answer[Message](p, "command", map[string]any{"context": written(who), "content": content})
}

// Form sends a form back.
func (p *Plugin) Form(who sdk.Context, values map[string]string) (Message, error) {
	p.tb.Helper()
	return answer[Message](p, "form", map[string]any{"context": written(who), "values": values})
}

// Input says what is no command.
func (p *Plugin) Input(who sdk.Context, head map[string]any, content any) (Message, error) {
	p.tb.Helper()
	return answer[Message](p, "input", map[string]any{"context": written(who), "head": head, "content": content})
}

// Rules asks what the plugin listens to.
func (p *Plugin) Rules() (json.RawMessage, error) {
	p.tb.Helper()
	return p.Call("rules", nil)
}

// Help asks what the plugin can do.
func (p *Plugin) Help() (map[string][]string, error) {
	p.tb.Helper()
	return answer[map[string][]string](p, "help", nil)
}

// Result is what an operation came to.
type Result struct {
	sdk.InvokeResult
	// Data is as the plugin wrote it.
	Data json.RawMessage `json:"data"`
}

// Invoke runs an operation.
func (p *Plugin) Invoke(operation string, params any) (Result, error) {
	p.tb.Helper()
	return answer[Result](p, "ability_call", map[string]any{"operation": operation, "params": params})
}

// ConvertWebhook hands a webhook's body to the plugin.
func (p *Plugin) ConvertWebhook(payload []byte) ([]sdk.DataEvent, error) {
	p.tb.Helper()
	return answer[[]sdk.DataEvent](p, "webhook_convert", map[string][]byte{"payload": payload})
}

// OAuthAuthorize asks where to send a person.
func (p *Plugin) OAuthAuthorize(state string) (string, error) {
	p.tb.Helper()
	to, err := answer[struct{ URL string }](p, "oauth_authorize", map[string]string{"state": state})
	return to.URL, err
}

// OAuthCallback exchanges a code for a token, a JSON object.
func (p *Plugin) OAuthCallback(state, code string) (map[string]any, error) {
	p.tb.Helper()
	return answer[map[string]any](p, "oauth_callback", map[string]string{"state": state, "code": code})
}

// written is a context as hosts write it, in both shapes; Raw, if it is set, is taken in its place.
func written(who sdk.Context) any {
	if who.Raw != nil {
		return who.Raw
	}
	return map[string]any{
		"Id": who.ID, "Platform": who.Platform, "Topic": who.Topic, "AsUser": who.UserID, "FormRuleId": who.FormRuleID, "FormId": who.FormID,
		"auth_context": who.AuthContext, "user_id": who.UserID, "channel_id": who.ChannelID, "platform": who.Platform, "metadata": who.Metadata,
	}
}
