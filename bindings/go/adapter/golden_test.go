package adapter

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// golden reads the cases of one shape, which every language reads.
func golden[C any](t *testing.T, name string) []C {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "tests", "golden", "shapes", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []C
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("there are no cases")
	}
	return cases
}

// same compares two values as the JSON that they are.
func same(t *testing.T, got any, want json.RawMessage) {
	t.Helper()
	text, err := encoded(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(json.Unmarshal(text, &a), json.Unmarshal(want, &b)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestMessagesAreReadByTypeAndByShape(t *testing.T) {
	type message struct {
		Name, Type  string
		JSON, Value json.RawMessage
	}
	for _, c := range golden[message](t, "payloads") {
		t.Run(c.Name, func(t *testing.T) {
			module := NewModule(&answering{answer: c.JSON})
			got, err := module.Command(t.Context(), Context{}, nil)
			switch {
			case c.Type == "error":
				var e *flowplug.Error
				if !errors.Is(err, flowplug.ErrInvalidResponse) || !errors.As(err, &e) || e.Function != "command" {
					t.Errorf("%v, %v", got, err)
				}
			case err != nil:
				t.Error(err)
			case c.Type == "":
				if got != nil {
					t.Error(got)
				}
			case got.Kind() != c.Type:
				t.Errorf("a %s", got.Kind())
			default:
				same(t, got, c.Value)
			}
		})
	}
}

func TestEventsAreCompleted(t *testing.T) {
	type event struct {
		Name, Provider string
		JSON, Value    json.RawMessage
		Error          bool
	}
	for _, c := range golden[event](t, "events") {
		t.Run(c.Name, func(t *testing.T) {
			provider := NewProvider(&answering{answer: join("[", c.JSON, "]")}, flowplug.ProviderDecl{Name: c.Provider})
			before := time.Now()
			got, err := provider.ConvertWebhook(t.Context(), nil)
			if c.Error {
				if !errors.Is(err, flowplug.ErrInvalidResponse) {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			var want map[string]any
			if err := json.Unmarshal(c.Value, &want); err != nil {
				t.Fatal(err)
			}
			if want["created_at"] == "now" {
				if at := got[0].CreatedAt; at.Before(before) || at.After(time.Now()) {
					t.Errorf("made at %v", at)
				}
				want["created_at"] = got[0].CreatedAt
			}
			whole, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got[0], whole)
		})
	}
}

func TestResultsAreRead(t *testing.T) {
	type result struct {
		Name        string
		JSON, Value json.RawMessage
		Error       bool
	}
	bookmark := flowplug.AbilityDecl{Capability: "bookmark", Operations: []string{"list"}}
	for _, c := range golden[result](t, "results") {
		t.Run(c.Name, func(t *testing.T) {
			got, err := NewAbility(&answering{answer: c.JSON}, bookmark).Invoke(t.Context(), "list", nil)
			switch {
			case c.Error:
				if !errors.Is(err, flowplug.ErrInvalidResponse) {
					t.Errorf("%v, %v", got, err)
				}
			case err != nil:
				t.Error(err)
			default:
				same(t, got, c.Value)
			}
		})
	}
}

func TestAContextIsWrittenInBothShapes(t *testing.T) {
	type context struct {
		Name  string
		Value struct {
			ID          string          `json:"id"`
			Platform    string          `json:"platform"`
			Topic       string          `json:"topic"`
			UserID      string          `json:"user_id"`
			ChannelID   string          `json:"channel_id"`
			FormRuleID  string          `json:"form_rule_id"`
			FormID      string          `json:"form_id"`
			AuthContext json.RawMessage `json:"auth_context"`
			Metadata    map[string]any  `json:"metadata"`
		}
		JSON json.RawMessage
	}
	for _, c := range golden[context](t, "contexts") {
		t.Run(c.Name, func(t *testing.T) { same(t, Context(c.Value), c.JSON) })
	}
}

func join(before string, middle []byte, after string) json.RawMessage {
	return append(append([]byte(before), middle...), after...)
}
