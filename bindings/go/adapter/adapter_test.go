package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// answering is a plugin that always answers the same, and keeps what it was asked.
type answering struct {
	answer   json.RawMessage
	err      error
	health   *flowplug.HealthStatus
	function string
	params   json.RawMessage
	ctx      context.Context
}

func (a *answering) Call(ctx context.Context, function string, params json.RawMessage) (json.RawMessage, error) {
	a.ctx, a.function, a.params = ctx, function, params
	return a.answer, a.err
}

func (a *answering) Start(ctx context.Context, config json.RawMessage) error {
	a.ctx, a.function, a.params = ctx, "start", config
	return a.err
}

func (a *answering) Health(context.Context) (*flowplug.HealthStatus, error) { return a.health, a.err }

// asked fails unless the plugin was asked for that, with these params.
func (a *answering) asked(t *testing.T, function, params string) {
	t.Helper()
	if a.function != function || string(a.params) != params {
		t.Errorf("asked for %s with %s, not for %s with %s", a.function, a.params, function, params)
	}
}

func TestWhatAModuleAsks(t *testing.T) {
	plugin := &answering{answer: json.RawMessage(`{"text":"hi"}`)}
	m := NewModule(plugin)
	who := json.RawMessage(`{"Platform":"slack"}`)
	for name, c := range map[string]struct {
		ask    func() (Payload, error)
		params string
	}{
		"command": {
			func() (Payload, error) { return m.Command(t.Context(), who, "a <b>") },
			`{"content":"a <b>","context":{"Platform":"slack"}}`,
		},
		"form": {
			func() (Payload, error) { return m.Form(t.Context(), nil, nil) },
			`{"context":null,"values":{}}`,
		},
		"input": {
			func() (Payload, error) { return m.Input(t.Context(), who, nil, []int{1}) },
			`{"content":[1],"context":{"Platform":"slack"},"head":{}}`,
		},
	} {
		got, err := c.ask()
		if err != nil || got != (TextMsg{"hi"}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		plugin.asked(t, name, c.params)
		if plugin.ctx != t.Context() {
			t.Errorf("%s: the context is not the caller's", name)
		}
	}
	if err := m.Bootstrap(t.Context()); err != nil {
		t.Error(err)
	}
	plugin.asked(t, "bootstrap", "")
	if err := m.Init(t.Context(), json.RawMessage(`{"a":1}`)); err != nil {
		t.Error(err)
	}
	plugin.asked(t, "start", `{"a":1}`)
}

func TestAModuleIsReadyWhenItsPluginSaysSo(t *testing.T) {
	for _, c := range []struct {
		health *flowplug.HealthStatus
		err    error
		want   bool
	}{
		{&flowplug.HealthStatus{Ready: true}, nil, true},
		{&flowplug.HealthStatus{}, nil, false},
		{nil, flowplug.ErrInvalidState, false},
	} {
		if got := NewModule(&answering{health: c.health, err: c.err}).IsReady(t.Context()); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestRulesInBothShapes(t *testing.T) {
	for text, want := range map[string]string{
		`[{"a":1},2]`: `[[{"a":1},2],null,null,null,null] of 2`,
		`{"commands":[1],"forms":[2,3],"webservices":[],"webhooks":[4]}`: `[null,[1],[2,3],[],[4]] of 4`,
		`{}`:   `[null,null,null,null,null] of 0`,
		`null`: `[null,null,null,null,null] of 0`,
	} {
		rules, err := NewModule(&answering{answer: json.RawMessage(text)}).Rules(t.Context())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		parts, _ := json.Marshal([][]json.RawMessage{rules.List, rules.Commands, rules.Forms, rules.Webservices, rules.Webhooks})
		if got := fmt.Sprintf("%s of %d", parts, len(rules.All())); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	for _, text := range []string{`7`, `{"commands":1}`} {
		if _, err := NewModule(&answering{answer: json.RawMessage(text)}).Rules(t.Context()); !errors.Is(err, flowplug.ErrInvalidResponse) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestHelpIsNeverNil(t *testing.T) {
	for text, topics := range map[string]int{`null`: 0, `{"a":["b"]}`: 1} {
		help, err := NewModule(&answering{answer: json.RawMessage(text)}).Help(t.Context())
		if err != nil || help == nil || len(help) != topics {
			t.Errorf("%s: %v, %v", text, help, err)
		}
	}
	if _, err := NewModule(&answering{answer: json.RawMessage(`["a"]`)}).Help(t.Context()); !errors.Is(err, flowplug.ErrInvalidResponse) {
		t.Error(err)
	}
}

func TestEachDeclaredOperationHasAnInvoker(t *testing.T) {
	plugin := &answering{answer: json.RawMessage(`{"data":{"n":1},"text":"x"}`)}
	provides := flowplug.Provides{Abilities: []flowplug.AbilityDecl{
		{Capability: "bookmark", Operations: []string{"list", "get"}}, {Capability: "reader", Operations: []string{"read"}},
	}}
	var all []string
	for _, ability := range Abilities(plugin, provides) {
		for operation, invoke := range ability.Invokers() {
			all = append(all, ability.Capability+"."+operation)
			result, err := invoke(t.Context(), map[string]string{"id": "<1>"})
			if err != nil || result.Capability != ability.Capability || result.Operation != operation {
				t.Errorf("%+v, %v", result, err)
			}
			plugin.asked(t, "ability_call", `{"operation":"`+operation+`","params":{"id":"<1>"}}`)
		}
	}
	if want := []string{"bookmark.list", "bookmark.get", "reader.read"}; !slices.Equal(all, want) {
		t.Error(all)
	}
	for range NewAbility(plugin, provides.Abilities[0]).Invokers() {
		break // an early end is none of the ability's business
	}
}

func TestAnOperationThatIsNotDeclaredNeverReachesThePlugin(t *testing.T) {
	plugin := &answering{}
	ability := NewAbility(plugin, flowplug.AbilityDecl{Capability: "bookmark", Operations: []string{"list"}})
	for _, operation := range []string{"delete", "", "oauth_authorize"} {
		_, err := ability.Invoke(t.Context(), operation, nil)
		if !errors.Is(err, flowplug.ErrNotFound) || plugin.function != "" {
			t.Errorf("%q: %v", operation, err)
		}
	}
	if _, err := ability.Invoke(t.Context(), "list", func() {}); !errors.Is(err, flowplug.ErrInvalidArgument) || plugin.function != "" {
		t.Error(err)
	}
}

func TestDataIsDecodedWithAllItsDigits(t *testing.T) {
	var data []struct{ ID int64 }
	result := InvokeResult{Data: json.RawMessage(`[{"id":9007199254740993}]`)}
	if err := result.Decode(&data); err != nil || len(data) != 1 || data[0].ID != 9007199254740993 {
		t.Errorf("%v, %v", data, err)
	}
	if err := result.Decode(new(string)); !errors.Is(err, flowplug.ErrInvalidResponse) {
		t.Error(err)
	}
	if err := new(InvokeResult).Decode(&data); err != nil || len(data) != 1 {
		t.Errorf("nothing there: %v, %v", data, err)
	}
}

func TestAnErrorOfThePluginIsHandedOn(t *testing.T) {
	failure := &flowplug.Error{Status: flowplug.StatusPluginError, PluginMessage: "no tea"}
	plugin := &answering{err: failure}
	oauth := NewProvider(plugin, flowplug.ProviderDecl{Name: "p", OAuth: true})
	ability := NewAbility(plugin, flowplug.AbilityDecl{Capability: "c", Operations: []string{"o"}})
	module := NewModule(plugin)
	for name, ask := range map[string]func() error{
		"command": func() error { _, err := module.Command(t.Context(), nil, nil); return err },
		"rules":   func() error { _, err := module.Rules(t.Context()); return err },
		"help":    func() error { _, err := module.Help(t.Context()); return err },
		"ability": func() error { _, err := ability.Invoke(t.Context(), "o", nil); return err },
		"webhook": func() error { _, err := oauth.ConvertWebhook(t.Context(), nil); return err },
		"url":     func() error { _, err := oauth.AuthorizeURL(t.Context(), "s"); return err },
		"token":   func() error { _, err := oauth.Exchange(t.Context(), "s", "c"); return err },
	} {
		var e *flowplug.Error
		if err := ask(); !errors.As(err, &e) || e.PluginMessage != "no tea" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWebhookIsHandedOnAsBytes(t *testing.T) {
	plugin := &answering{answer: json.RawMessage(`null`)}
	provider := NewProvider(plugin, flowplug.ProviderDecl{Name: "shop"})
	for payload, want := range map[string]string{"\xff\x00{": `{"payload":"/wB7"}`, "": `{"payload":""}`} {
		events, err := provider.ConvertWebhook(t.Context(), []byte(payload))
		if err != nil || len(events) != 0 {
			t.Errorf("%v, %v", events, err)
		}
		plugin.asked(t, "webhook_convert", want)
	}
	if _, err := provider.ConvertWebhook(t.Context(), nil); err != nil {
		t.Error(err)
	}
	plugin.asked(t, "webhook_convert", `{"payload":""}`)
}

func TestOAuthBothWays(t *testing.T) {
	plugin := &answering{answer: json.RawMessage(`{"url":"https://login.example.com/?state=s&x=1"}`)}
	provider := NewProvider(plugin, flowplug.ProviderDecl{Name: "shop", OAuth: true})
	if address, err := provider.AuthorizeURL(t.Context(), "s"); err != nil || address != "https://login.example.com/?state=s&x=1" {
		t.Errorf("%s, %v", address, err)
	}
	plugin.asked(t, "oauth_authorize", `{"state":"s"}`)

	plugin.answer = json.RawMessage(`{"access_token":"secret","token_type":"Bearer","expires_in":"3600","scope":null,"more":[1]}`)
	token, err := provider.Exchange(t.Context(), "s", "c")
	if err != nil || token.AccessToken != "secret" || token.TokenType != "Bearer" || token.Scope != "" || string(token.Raw) != string(plugin.answer) {
		t.Errorf("%v, %v", token, err)
	}
	plugin.asked(t, "oauth_callback", `{"code":"c","state":"s"}`)
	if shown := fmt.Sprintf("%v %+v %#v %s", token, *token, token, token); strings.Contains(shown, "secret") {
		t.Error(shown)
	}
}

func TestWhatAHostMustNotTakeOfAnOAuthPlugin(t *testing.T) {
	plugin := &answering{}
	provider := NewProvider(plugin, flowplug.ProviderDecl{Name: "shop", OAuth: true})
	for _, answer := range []string{
		`null`, `{}`, `{"url":""}`, `{"url":"javascript:alert(1)"}`, `{"url":"/relative"}`, `{"url":"https:///nowhere"}`, `{"url":"https://a b/"}`,
		`{"url":5}`, `"https://example.com"`, `{"url":"ftp://example.com"}`,
	} {
		plugin.answer = json.RawMessage(answer)
		if address, err := provider.AuthorizeURL(t.Context(), "s"); !errors.Is(err, flowplug.ErrInvalidResponse) {
			t.Errorf("%s: %s, %v", answer, address, err)
		}
	}
	for _, answer := range []string{`null`, `"secret"`, `["secret"]`} {
		plugin.answer = json.RawMessage(answer)
		token, err := provider.Exchange(t.Context(), "s", "c")
		if !errors.Is(err, flowplug.ErrInvalidResponse) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", answer, token, err)
		}
	}
}

func TestAProviderWithoutOAuthIsNotAsked(t *testing.T) {
	plugin := &answering{answer: json.RawMessage(`{"url":"https://example.com"}`)}
	provider := NewProvider(plugin, flowplug.ProviderDecl{Name: "shop"})
	_, err := provider.AuthorizeURL(t.Context(), "s")
	_, failed := provider.Exchange(t.Context(), "s", "c")
	if !errors.Is(err, flowplug.ErrNotFound) || !errors.Is(failed, flowplug.ErrNotFound) || plugin.function != "" {
		t.Errorf("%v, %v", err, failed)
	}
	if provider.Name() != "shop" || provider.OAuth() {
		t.Error(provider)
	}
}
