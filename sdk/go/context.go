package sdk

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Context says who asks, and from where. Hosts write it in two shapes, and both are read here: flowbot's own `{"Id", "Platform", "Topic",
// "AsUser", "FormRuleId", "FormId"}`, and its SDK's `{"auth_context", "user_id", "channel_id", "platform", "metadata"}`. Where a host sends
// both, the second is taken for what both have. What the host did not say is empty.
type Context struct {
	// ID identifies the request.
	ID string
	// Platform is where the person is: slack, discord...
	Platform string
	// Topic is the conversation in flowbot's words.
	Topic string
	// UserID is the person: user_id, or AsUser.
	UserID string
	// ChannelID is the channel on the platform.
	ChannelID string
	// FormRuleID and FormID name the form that was sent back.
	FormRuleID string
	FormID     string
	// AuthContext is JSON, as the host gave it.
	AuthContext json.RawMessage
	Metadata    map[string]any
	// Raw is the whole, with what has no field here.
	Raw json.RawMessage
}

// UnmarshalJSON reads both shapes. Null is the empty Context; anything but an object is an error.
func (c *Context) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("the context of a call must be a JSON object: %w", err)
	}
	*c = Context{
		ID:          firstText(fields, "Id", "id"),
		Platform:    firstText(fields, "platform", "Platform"),
		Topic:       firstText(fields, "topic", "Topic"),
		UserID:      firstText(fields, "user_id", "AsUser"),
		ChannelID:   firstText(fields, "channel_id"),
		FormRuleID:  firstText(fields, "FormRuleId"),
		FormID:      firstText(fields, "FormId"),
		AuthContext: fields["auth_context"],
		Raw:         bytes.Clone(data),
	}
	if raw, ok := fields["metadata"]; ok {
		if err := json.Unmarshal(raw, &c.Metadata); err != nil {
			return fmt.Errorf("the context's metadata must be a JSON object: %w", err)
		}
	}
	return nil
}

// firstText is the text of the first of the names that is there and not empty. A value that is not a string is given as its JSON text,
// since some platforms have numbers as ids.
func firstText(fields map[string]json.RawMessage, names ...string) string {
	for _, name := range names {
		raw, ok := fields[name]
		if !ok || string(raw) == "null" {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if text != "" {
			return text
		}
	}
	return ""
}
