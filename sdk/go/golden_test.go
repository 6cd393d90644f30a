package sdk

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"
)

// golden reads the cases of one shape, which hosts read too.
func golden(t *testing.T, name string, cases any) {
	t.Helper()
	text, err := os.ReadFile("../../tests/golden/shapes/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, cases); err != nil {
		t.Fatal(err)
	}
}

func sameJSON(t *testing.T, got, want json.RawMessage) {
	t.Helper()
	var a, b any
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal(want, &b)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMessagesAreWhatHostsRead(t *testing.T) {
	var cases []struct {
		Name, Type  string
		Made        bool
		JSON, Value json.RawMessage
	}
	golden(t, "payloads", &cases)
	made := 0
	for _, c := range cases {
		if !c.Made {
			continue
		}
		made++
		message := map[string]any{
			"TextMsg": new(TextMsg), "LinkMsg": new(LinkMsg), "TableMsg": new(TableMsg), "InfoMsg": new(InfoMsg), "ChartMsg": new(ChartMsg), "KVMsg": new(KVMsg),
		}[c.Type]
		if err := json.Unmarshal(c.Value, message); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		text, err := encode("command", message)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		sameJSON(t, text, c.JSON)
	}
	if made < 6 {
		t.Errorf("%d messages", made)
	}
}

func TestResultsAreWhatHostsRead(t *testing.T) {
	var cases []struct {
		Name        string
		JSON, Value json.RawMessage
	}
	golden(t, "results", &cases)
	var result InvokeResult
	if err := json.Unmarshal(cases[0].Value, &result); err != nil {
		t.Fatal(err)
	}
	text, err := encode("ability_call", result)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, text, cases[0].JSON)
}

func TestTheContextThatHostsWriteIsRead(t *testing.T) {
	var cases []struct {
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
	golden(t, "contexts", &cases)
	for _, c := range cases {
		got, err := parseContext(c.JSON)
		if err != nil {
			t.Fatal(err)
		}
		want := Context{
			ID: c.Value.ID, Platform: c.Value.Platform, Topic: c.Value.Topic, UserID: c.Value.UserID, ChannelID: c.Value.ChannelID,
			FormRuleID: c.Value.FormRuleID, FormID: c.Value.FormID, AuthContext: c.Value.AuthContext, Metadata: c.Value.Metadata,
			Raw: got.Raw,
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		sameJSON(t, a, b)
	}
}
