package sdk

import "time"

// InvokeResult is the answer of an ability's operation.
type InvokeResult struct {
	Capability string `json:"capability"`
	Operation  string `json:"operation"`
	// Data is what was asked for: an object or an array.
	Data any `json:"data,omitempty"`
	// Page says how to go on where Data is a part.
	Page any `json:"page,omitempty"`
	// Text is the answer in words for a person.
	Text string         `json:"text,omitempty"`
	Meta map[string]any `json:"meta,omitempty"`
	// Events are those that the operation has emitted.
	Events []EventRef `json:"events,omitempty"`
}

// EventRef names an event.
type EventRef struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	EntityID  string `json:"entity_id,omitempty"`
}

// DataEvent is something that happened. The host fills in what is left empty, where it can.
type DataEvent struct {
	EventID        string         `json:"event_id,omitempty"`
	EventType      string         `json:"event_type"`
	Source         string         `json:"source,omitempty"`
	Capability     string         `json:"capability,omitempty"`
	Operation      string         `json:"operation,omitempty"`
	App            string         `json:"app,omitempty"`
	EntityID       string         `json:"entity_id,omitempty"`
	CreatedAt      time.Time      `json:"created_at,omitzero"`
	IdempotencyKey string         `json:"idempotency_key,omitempty"`
	UID            string         `json:"uid,omitempty"`
	Topic          string         `json:"topic,omitempty"`
	Data           map[string]any `json:"data,omitempty"`
	Tags           map[string]any `json:"tags,omitempty"`
}

// HTTPRequest is a request that the host makes for the plugin.
type HTTPRequest struct {
	// Method is GET if it is empty.
	Method string `json:"method"`
	// URL is absolute, http or https, of a host that the manifest asks for and the operator grants.
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    []byte            `json:"body,omitempty"`
}

// HTTPResponse is what came back, whatever its status.
type HTTPResponse struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}
