package sdk

import (
	"bytes"
	"encoding/json"
	"maps"
)

// The messages a plugin can answer. Each is encoded as an object with its kind in `_type`.

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

// TableMsg is a table: the columns' names and the rows, each as long as the header.
type TableMsg struct {
	Title  string   `json:"title"`
	Header []string `json:"header"`
	Row    [][]any  `json:"row"`
}

// InfoMsg shows one thing, whatever it is.
type InfoMsg struct {
	Title string `json:"title"`
	Model any    `json:"model"`
}

// ChartMsg is a chart: one value of the series for each label of the axis.
type ChartMsg struct {
	Title    string    `json:"title"`
	SubTitle string    `json:"sub_title"`
	XAxis    []string  `json:"x_axis"`
	Series   []float64 `json:"series"`
}

// KVMsg is names and values. A key `_type` is overwritten.
type KVMsg map[string]any

// MarshalJSON adds the kind.
func (m TextMsg) MarshalJSON() ([]byte, error) {
	type fields TextMsg
	return tagged("TextMsg", fields(m))
}

// MarshalJSON adds the kind.
func (m LinkMsg) MarshalJSON() ([]byte, error) {
	type fields LinkMsg
	return tagged("LinkMsg", fields(m))
}

// MarshalJSON adds the kind.
func (m TableMsg) MarshalJSON() ([]byte, error) {
	type fields TableMsg
	return tagged("TableMsg", fields(m))
}

// MarshalJSON adds the kind.
func (m InfoMsg) MarshalJSON() ([]byte, error) {
	type fields InfoMsg
	return tagged("InfoMsg", fields(m))
}

// MarshalJSON adds the kind.
func (m ChartMsg) MarshalJSON() ([]byte, error) {
	type fields ChartMsg
	return tagged("ChartMsg", fields(m))
}

// MarshalJSON adds the kind.
func (m KVMsg) MarshalJSON() ([]byte, error) {
	withKind := make(map[string]any, len(m)+1)
	maps.Copy(withKind, m)
	withKind["_type"] = "KVMsg"
	return marshal(withKind)
}

// tagged encodes a struct that has fields, with its kind before them.
func tagged(kind string, fields any) ([]byte, error) {
	object, err := marshal(fields)
	if err != nil {
		return nil, err
	}
	return join(`{"_type":"`+kind+`",`, object[1:], ""), nil
}

// marshal is json.Marshal that leaves <, > and & as they are: nothing here ends up inside a web page.
func marshal(value any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func join(before string, middle []byte, after string) []byte {
	joined := make([]byte, 0, len(before)+len(middle)+len(after))
	joined = append(joined, before...)
	joined = append(joined, middle...)
	return append(joined, after...)
}
