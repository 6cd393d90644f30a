package adapter

import (
	"context"
	"encoding/json"
	"slices"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// Runner is what a [Module] stands on: a [flowplug.Runner] that has loaded its plugin.
type Runner interface {
	Caller
	Start(ctx context.Context, config json.RawMessage) error
	Health(ctx context.Context) (*flowplug.HealthStatus, error)
}

var _ Runner = (*flowplug.Runner)(nil)

// Module is a plugin whose manifest has provides.module: one that people talk to.
type Module struct{ runner Runner }

// NewModule makes a Module of a plugin that was loaded.
func NewModule(runner Runner) *Module { return &Module{runner} }

// Init starts the plugin with its config.
func (m *Module) Init(ctx context.Context, config json.RawMessage) error {
	return m.runner.Start(ctx, config)
}

// IsReady says whether the plugin can take calls now.
func (m *Module) IsReady(ctx context.Context) bool {
	health, err := m.runner.Health(ctx)
	return err == nil && health.Ready
}

// Bootstrap lets the plugin do what is to be done once, after Init and before anything else.
func (m *Module) Bootstrap(ctx context.Context) error {
	_, err := m.runner.Call(ctx, "bootstrap", nil)
	return err
}

// Command hands on what a person said and returns the plugin's message, nil if it has none. who is usually a [Context]; both can be anything
// that marshals to JSON.
func (m *Module) Command(ctx context.Context, who, content any) (Payload, error) {
	return m.message(ctx, "command", map[string]any{"context": who, "content": content})
}

// Form hands on a form that a person sent back: see [Module.Command].
func (m *Module) Form(ctx context.Context, who any, values map[string]string) (Payload, error) {
	if values == nil {
		values = map[string]string{}
	}
	return m.message(ctx, "form", map[string]any{"context": who, "values": values})
}

// Input hands on what a person sent that is no command: see [Module.Command]. gRPC plugins do not have it: [flowplug.ErrUnknownFunction].
func (m *Module) Input(ctx context.Context, who any, head map[string]any, content any) (Payload, error) {
	if head == nil {
		head = map[string]any{}
	}
	return m.message(ctx, "input", map[string]any{"context": who, "head": head, "content": content})
}

func (m *Module) message(ctx context.Context, function string, params map[string]any) (Payload, error) {
	var raw json.RawMessage
	if err := ask(ctx, m.runner, function, params, &raw); err != nil {
		return nil, err
	}
	payload, err := DecodePayload(raw)
	if err != nil {
		return nil, misshapen(function, err)
	}
	return payload, nil
}

// Rules returns what the plugin listens to.
func (m *Module) Rules(ctx context.Context) (rules Rules, err error) {
	err = ask(ctx, m.runner, "rules", nil, &rules)
	return rules, err
}

// Help returns lines in words by their topic; never nil without an error.
func (m *Module) Help(ctx context.Context) (map[string][]string, error) {
	help := map[string][]string{}
	if err := ask(ctx, m.runner, "help", nil, &help); err != nil {
		return nil, err
	}
	return help, nil
}

// Rules is what a plugin listens to; what one rule says is between plugin and host. A plugin answers an array, which is List, or an object
// with the other four.
type Rules struct {
	List        []json.RawMessage
	Commands    []json.RawMessage
	Forms       []json.RawMessage
	Webservices []json.RawMessage
	Webhooks    []json.RawMessage
}

// UnmarshalJSON reads both shapes.
func (r *Rules) UnmarshalJSON(data []byte) error {
	*r = Rules{}
	if !isObject(data) {
		return json.Unmarshal(data, &r.List)
	}
	var kinds struct {
		Commands    []json.RawMessage `json:"commands"`
		Forms       []json.RawMessage `json:"forms"`
		Webservices []json.RawMessage `json:"webservices"`
		Webhooks    []json.RawMessage `json:"webhooks"`
	}
	if err := json.Unmarshal(data, &kinds); err != nil {
		return err
	}
	r.Commands, r.Forms, r.Webservices, r.Webhooks = kinds.Commands, kinds.Forms, kinds.Webservices, kinds.Webhooks
	return nil
}

// All returns every rule, whatever its kind.
func (r Rules) All() []json.RawMessage {
	return slices.Concat(r.List, r.Commands, r.Forms, r.Webservices, r.Webhooks)
}

// Context says who asks, and from where. It is written in both shapes that plugins read: flowbot's own (Id, Platform, Topic, AsUser,
// FormRuleId, FormId) and that of its SDK (auth_context, user_id, channel_id, platform, metadata).
type Context struct {
	// ID identifies the request.
	ID string
	// Platform is where the person is: slack, discord...
	Platform string
	// Topic is the conversation in flowbot's words.
	Topic string
	// UserID is the person: user_id, and AsUser.
	UserID string
	// ChannelID is the channel on the platform.
	ChannelID string
	// FormRuleID and FormID name the form that was sent back.
	FormRuleID string
	FormID     string
	// AuthContext is JSON, for the plugin alone; nil is null.
	AuthContext json.RawMessage
	Metadata    map[string]any
}

// MarshalJSON writes both shapes in one object.
func (c Context) MarshalJSON() ([]byte, error) {
	return encoded(struct {
		ID          string          `json:"Id"`
		Where       string          `json:"Platform"`
		Topic       string          `json:"Topic"`
		AsUser      string          `json:"AsUser"`
		FormRuleID  string          `json:"FormRuleId"`
		FormID      string          `json:"FormId"`
		AuthContext json.RawMessage `json:"auth_context"`
		UserID      string          `json:"user_id"`
		ChannelID   string          `json:"channel_id"`
		Platform    string          `json:"platform"`
		Metadata    map[string]any  `json:"metadata"`
	}{c.ID, c.Platform, c.Topic, c.UserID, c.FormRuleID, c.FormID, c.AuthContext, c.UserID, c.ChannelID, c.Platform, c.Metadata})
}
