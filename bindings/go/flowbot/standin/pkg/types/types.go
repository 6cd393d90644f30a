// SPDX-License-Identifier: GPL-3.0-only

// Package types stands in for flowbot's: what plugins' calls and events are made of.
package types

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// KV is names and values.
type KV map[string]any

// Uid is a person.
type Uid string

// Context says who asks. Its JSON has the fields' own names.
type Context struct {
	ctx context.Context

	Id             string
	Platform       string
	Topic          string
	AsUser         Uid
	FormRuleId     string
	FormId         string
	PageRuleId     string
	WorkflowRuleId string
	EventRuleId    string
	WebhookRuleId  string
	Method         string
	Headers        map[string][]string
}

// Context is the background where none was set.
func (c *Context) Context() context.Context {
	if c.ctx != nil {
		return c.ctx
	}
	return context.Background()
}

// DataEvent is something that happened.
type DataEvent struct {
	EventID        string    `json:"event_id"`
	EventType      string    `json:"event_type"`
	Source         string    `json:"source"`
	Capability     string    `json:"capability"`
	Operation      string    `json:"operation"`
	App            string    `json:"app"`
	EntityID       string    `json:"entity_id"`
	CreatedAt      time.Time `json:"created_at"`
	IdempotencyKey string    `json:"idempotency_key"`
	UID            string    `json:"uid"`
	Topic          string    `json:"topic"`
	Data           KV        `json:"data"`
	Tags           KV        `json:"tags,omitempty"`
}

// The kinds of errors that flowbot's server has an HTTP status for.
var (
	ErrInvalidArgument = errors.New("invalid argument")
	ErrUnauthorized    = errors.New("unauthorized")
	ErrForbidden       = errors.New("forbidden")
	ErrNotFound        = errors.New("not found")
	ErrAlreadyExists   = errors.New("already exists")
	ErrConflict        = errors.New("conflict")
	ErrRateLimited     = errors.New("rate limited")
	ErrUnavailable     = errors.New("unavailable")
	ErrTimeout         = errors.New("timeout")
	ErrNotImplemented  = errors.New("not implemented")
	ErrProvider        = errors.New("provider error")
	ErrInternal        = errors.New("internal error")
)

// MsgPayload is a message to a person.
type MsgPayload interface{ Convert() any }

// The messages that a plugin can send.
type (
	TextMsg struct {
		Text string `json:"text"`
	}
	LinkMsg struct {
		Title string `json:"title"`
		Cover string `json:"cover"`
		Url   string `json:"url"`
	}
	TableMsg struct {
		Title  string   `json:"title"`
		Header []string `json:"header"`
		Row    [][]any  `json:"row"`
	}
	InfoMsg struct {
		Title string `json:"title"`
		Model any    `json:"model,omitempty"`
	}
	ChartMsg struct {
		Title    string    `json:"title"`
		SubTitle string    `json:"sub_title"`
		XAxis    []string  `json:"x_axis"`
		Series   []float64 `json:"series"`
	}
	KVMsg map[string]any
)

// Convert returns the message.
func (m TextMsg) Convert() any { return m }

// Convert returns the message.
func (m LinkMsg) Convert() any { return m }

// Convert returns the message.
func (m TableMsg) Convert() any { return m }

// Convert returns the message.
func (m InfoMsg) Convert() any { return m }

// Convert returns the message.
func (m ChartMsg) Convert() any { return m }

// Convert returns the message.
func (m KVMsg) Convert() any { return m }

// ToPayload reads a message by its type's name; nil for one that it does not know.
func ToPayload(typ string, src []byte) MsgPayload {
	read, known := map[string]func([]byte) MsgPayload{
		"TextMsg": as[TextMsg], "LinkMsg": as[LinkMsg], "TableMsg": as[TableMsg], "InfoMsg": as[InfoMsg], "ChartMsg": as[ChartMsg], "KVMsg": as[KVMsg],
	}[typ]
	if !known {
		return nil
	}
	return read(src)
}

// as reads what it can: a field of another type stays empty.
func as[M MsgPayload](src []byte) MsgPayload {
	var message M
	_ = json.Unmarshal(src, &message)
	return message
}
