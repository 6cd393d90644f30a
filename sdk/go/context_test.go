package sdk

import (
	"encoding/json"
	"testing"
)

func TestContextReadsBothShapes(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want Context
	}{
		"flowbot": {
			`{"Id":"m1","Platform":"slack","Topic":"t","AsUser":"u1","FormRuleId":"r","FormId":"f","Extra":1}`,
			Context{ID: "m1", Platform: "slack", Topic: "t", UserID: "u1", FormRuleID: "r", FormID: "f"},
		},
		"SDK": {
			`{"auth_context":{"a":1},"user_id":"u2","channel_id":"c","platform":"discord","metadata":{"k":"v"}}`,
			Context{UserID: "u2", ChannelID: "c", Platform: "discord", AuthContext: json.RawMessage(`{"a":1}`), Metadata: map[string]any{"k": "v"}},
		},
		"both":            {`{"AsUser":"old","user_id":"new","Platform":"","platform":"p"}`, Context{UserID: "new", Platform: "p"}},
		"numbers as ids":  {`{"Id":7,"user_id":42}`, Context{ID: "7", UserID: "42"}},
		"nulls and empty": {`{"Id":null,"user_id":"","AsUser":"u","metadata":null}`, Context{UserID: "u"}},
		"null":            {`null`, Context{}},
	} {
		got, err := parseContext(json.RawMessage(test.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if test.text != "null" && string(got.Raw) != test.text {
			t.Errorf("%s: Raw is %s", name, got.Raw)
		}
		got.Raw = nil
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(test.want)
		if string(a) != string(b) {
			t.Errorf("%s: got %s, want %s", name, a, b)
		}
	}
}

func TestContextThatIsNoObjectIsAnError(t *testing.T) {
	for _, text := range []string{`"text"`, `[]`, `{"metadata":1}`} {
		if _, err := parseContext(json.RawMessage(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}
