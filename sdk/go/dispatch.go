package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
)

// oauthAuthorize is an operation to gRPC hosts, since their protocol has no call for it.
const oauthAuthorize = "oauth_authorize"

var null = json.RawMessage("null")

// plugin is a Module as both runtimes call it: JSON in, JSON out, and no panic.
type plugin struct{ module Module }

func (p *plugin) init(ctx context.Context, config json.RawMessage) error {
	_, err := guard(ctx, "init", func() (any, error) { return nil, p.module.Init(ctx, orNull(config)) })
	return err
}

func (p *plugin) bootstrap(ctx context.Context) (json.RawMessage, error) {
	return guard(ctx, "bootstrap", func() (any, error) { return nil, p.module.Bootstrap(ctx) })
}

func (p *plugin) command(ctx context.Context, who, content json.RawMessage) (json.RawMessage, error) {
	return guard(ctx, "command", func() (any, error) {
		parsed, err := parseContext(who)
		if err != nil {
			return nil, err
		}
		return p.module.Command(ctx, parsed, orNull(content))
	})
}

func (p *plugin) form(ctx context.Context, who json.RawMessage, values map[string]string) (json.RawMessage, error) {
	return guard(ctx, "form", func() (any, error) {
		parsed, err := parseContext(who)
		if err != nil {
			return nil, err
		}
		return p.module.Form(ctx, parsed, values)
	})
}

func (p *plugin) input(ctx context.Context, who json.RawMessage, head map[string]any, content json.RawMessage) (json.RawMessage, error) {
	return guard(ctx, "input", func() (any, error) {
		listener, ok := p.module.(Listener)
		if !ok {
			return nil, unsupported("input")
		}
		parsed, err := parseContext(who)
		if err != nil {
			return nil, err
		}
		return listener.Input(ctx, parsed, head, orNull(content))
	})
}

func (p *plugin) rules(ctx context.Context) (json.RawMessage, error) {
	return guard(ctx, "rules", func() (any, error) { return p.module.Rules(ctx) })
}

func (p *plugin) help(ctx context.Context) (json.RawMessage, error) {
	return guard(ctx, "help", func() (any, error) { return p.module.Help(ctx) })
}

func (p *plugin) isReady(ctx context.Context) bool {
	ready := false
	_, err := guard(ctx, "is_ready", func() (any, error) {
		ready = p.module.IsReady(ctx)
		return nil, nil
	})
	return err == nil && ready
}

func (p *plugin) invoke(ctx context.Context, operation string, params json.RawMessage) (json.RawMessage, error) {
	return guard(ctx, "ability_call", func() (any, error) {
		ability, ok := p.module.(Ability)
		if !ok {
			return nil, unsupported("abilities")
		}
		return ability.Invoke(ctx, operation, orNull(params))
	})
}

func (p *plugin) convertWebhook(ctx context.Context, payload []byte) (json.RawMessage, error) {
	return guard(ctx, "webhook_convert", func() (any, error) {
		converter, ok := p.module.(WebhookConverter)
		if !ok {
			return nil, unsupported("webhooks")
		}
		events, err := converter.ConvertWebhook(ctx, payload)
		if events == nil {
			events = []DataEvent{}
		}
		return events, err
	})
}

func (p *plugin) oauthAuthorize(ctx context.Context, state string) (json.RawMessage, error) {
	return guard(ctx, oauthAuthorize, func() (any, error) {
		oauth, ok := p.module.(OAuth)
		if !ok {
			return nil, unsupported("OAuth")
		}
		url, err := oauth.OAuthAuthorize(ctx, state)
		return map[string]string{"url": url}, err
	})
}

func (p *plugin) oauthCallback(ctx context.Context, state, code string) (json.RawMessage, error) {
	return guard(ctx, "oauth_callback", func() (any, error) {
		oauth, ok := p.module.(OAuth)
		if !ok {
			return nil, unsupported("OAuth")
		}
		return oauth.OAuthCallback(ctx, state, code)
	})
}

// guard runs the plugin's own code, makes an error of its panic, and encodes its result. The encoding is inside, since it runs the plugin's
// code too: its MarshalJSON methods.
func guard(ctx context.Context, function string, run func() (any, error)) (result json.RawMessage, err error) {
	defer func() {
		if value := recover(); value != nil {
			logPanic(ctx, function, value, debug.Stack())
			result, err = nil, &panicError{function, value}
		}
	}()
	value, err := run()
	if err != nil {
		return nil, err
	}
	return encode(function, value)
}

func encode(function string, value any) (json.RawMessage, error) {
	if value == nil {
		return null, nil
	}
	encoded, err := marshal(value)
	if err != nil {
		return nil, fmt.Errorf("the plugin's answer to %s is not JSON: %w", function, err)
	}
	return encoded, nil
}

func parseContext(raw json.RawMessage) (Context, error) {
	var who Context
	if len(raw) == 0 {
		return who, nil
	}
	err := json.Unmarshal(raw, &who)
	return who, err
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return null
	}
	return raw
}
