package adapter

import (
	"encoding/json"
	"fmt"
)

// Payload is a plugin's message to a person: one of the ...Msg types.
type Payload interface {
	// Kind is the message's name as plugins write it in `_type`.
	Kind() string
}

// TextMsg is plain text.
type TextMsg struct {
	Text string `json:"text"`
}

// LinkMsg is a link with a title and, optionally, a picture.
type LinkMsg struct {
	Title string `json:"title"`
	Cover string `json:"cover"`
	URL   string `json:"url"`
}

// TableMsg is a table: the columns' names and the rows. That a row is as long as the header is the plugin's word alone.
type TableMsg struct {
	Title  string   `json:"title"`
	Header []string `json:"header"`
	Row    [][]any  `json:"row"`
}

// InfoMsg shows one thing, whatever it is.
type InfoMsg struct {
	Title string          `json:"title"`
	Model json.RawMessage `json:"model"`
}

// ChartMsg is a chart: one value of the series for each label of the axis, by the plugin's word.
type ChartMsg struct {
	Title    string    `json:"title"`
	SubTitle string    `json:"sub_title"`
	XAxis    []string  `json:"x_axis"`
	Series   []float64 `json:"series"`
}

// KVMsg is names and values, as package json reads them.
type KVMsg map[string]any

// Kind is "TextMsg".
func (TextMsg) Kind() string { return "TextMsg" }

// Kind is "LinkMsg".
func (LinkMsg) Kind() string { return "LinkMsg" }

// Kind is "TableMsg".
func (TableMsg) Kind() string { return "TableMsg" }

// Kind is "InfoMsg".
func (InfoMsg) Kind() string { return "InfoMsg" }

// Kind is "ChartMsg".
func (ChartMsg) Kind() string { return "ChartMsg" }

// Kind is "KVMsg".
func (KVMsg) Kind() string { return "KVMsg" }

// DecodePayload reads a message by its `_type`. Without one, and with one that is not known, it goes by its shape: text where `text` is a text and not
// empty, names and values else. Null is nil, without an error.
func DecodePayload(raw json.RawMessage) (Payload, error) {
	if isNull(raw) {
		return nil, nil
	}
	if !isObject(raw) {
		return nil, errNoObject
	}
	// A map knows the names as they are written; a struct would take _TYPE for _type.
	var values KVMsg
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, err
	}
	kind, _ := values["_type"].(string)
	switch kind {
	case "TextMsg":
		return payload[TextMsg](kind, raw)
	case "LinkMsg":
		return payload[LinkMsg](kind, raw)
	case "TableMsg":
		return payload[TableMsg](kind, raw)
	case "InfoMsg":
		return payload[InfoMsg](kind, raw)
	case "ChartMsg":
		return payload[ChartMsg](kind, raw)
	case "KVMsg":
		delete(values, "_type")
		return values, nil
	}
	if text, _ := values["text"].(string); text != "" {
		return TextMsg{Text: text}, nil
	}
	return values, nil
}

func payload[M Payload](kind string, raw json.RawMessage) (Payload, error) {
	var message M
	if err := json.Unmarshal(raw, &message); err != nil {
		return nil, fmt.Errorf("it says that it is a %s and is none: %w", kind, err)
	}
	return message, nil
}
