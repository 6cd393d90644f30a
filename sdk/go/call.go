package sdk

import (
	"context"
	"encoding/json"
	"fmt"
)

// Call calls a function of a plugin by its name, as a host of a WebAssembly module does: JSON in, JSON out, a panic as an error. The
// names are init, bootstrap, command, form, input, rules, help, is_ready, ability_call, webhook_convert, oauth_authorize and
// oauth_callback. It is what package plugintest stands on.
func Call(ctx context.Context, module Module, function string, params json.RawMessage) (json.RawMessage, error) {
	return (&plugin{module}).call(ctx, function, params)
}

type (
	commandParams struct {
		Context json.RawMessage `json:"context"`
		Content json.RawMessage `json:"content"`
	}
	formParams struct {
		Context json.RawMessage            `json:"context"`
		Values  map[string]json.RawMessage `json:"values"`
	}
	inputParams struct {
		Context json.RawMessage `json:"context"`
		Head    map[string]any  `json:"head"`
		Content json.RawMessage `json:"content"`
	}
	abilityParams struct {
		Operation string          `json:"operation"`
		Params    json.RawMessage `json:"params"`
	}
	webhookParams struct {
		Payload []byte `json:"payload"`
	}
	oauthParams struct {
		State string `json:"state"`
		Code  string `json:"code"`
	}
)

func (p *plugin) call(ctx context.Context, function string, raw json.RawMessage) (json.RawMessage, error) {
	switch function {
	case "init":
		return null, p.init(ctx, raw)
	case "bootstrap":
		return p.bootstrap(ctx)
	case "rules":
		return p.rules(ctx)
	case "help":
		return p.help(ctx)
	case "is_ready":
		return json.Marshal(p.isReady(ctx))
	case "command":
		return with(raw, func(q commandParams) (json.RawMessage, error) { return p.command(ctx, q.Context, q.Content) })
	case "form":
		return with(raw, func(q formParams) (json.RawMessage, error) { return p.form(ctx, q.Context, texts(q.Values)) })
	case "input":
		return with(raw, func(q inputParams) (json.RawMessage, error) { return p.input(ctx, q.Context, q.Head, q.Content) })
	case "ability_call":
		return with(raw, func(q abilityParams) (json.RawMessage, error) { return p.invoke(ctx, q.Operation, q.Params) })
	case "webhook_convert":
		return with(raw, func(q webhookParams) (json.RawMessage, error) { return p.convertWebhook(ctx, q.Payload) })
	case oauthAuthorize:
		return with(raw, func(q oauthParams) (json.RawMessage, error) { return p.oauthAuthorize(ctx, q.State) })
	case "oauth_callback":
		return with(raw, func(q oauthParams) (json.RawMessage, error) { return p.oauthCallback(ctx, q.State, q.Code) })
	}
	return nil, fmt.Errorf("there is no function %q", function)
}

// with reads the parameters of a call.
func with[P any](raw json.RawMessage, run func(P) (json.RawMessage, error)) (json.RawMessage, error) {
	var params P
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &params); err != nil {
			return nil, fmt.Errorf("the parameters of the call do not have the shape this function takes: %w", err)
		}
	}
	return run(params)
}

// texts are the values of a form; what is not a text is given as its JSON.
func texts(values map[string]json.RawMessage) map[string]string {
	all := make(map[string]string, len(values))
	for name := range values {
		all[name] = firstText(values, name)
	}
	return all
}
