package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// Provider is a plugin that stands for an outside service: it makes events of the service's webhooks, and knows the way to its OAuth.
type Provider struct {
	declared flowplug.ProviderDecl
	plugin   Caller
}

// NewProvider makes a Provider of a plugin whose manifest declares one.
func NewProvider(plugin Caller, declared flowplug.ProviderDecl) *Provider {
	return &Provider{declared, plugin}
}

// Name is the provider's name, as declared.
func (p *Provider) Name() string { return p.declared.Name }

// OAuth says whether the plugin does OAuth, as declared.
func (p *Provider) OAuth() bool { return p.declared.OAuth }

// ConvertWebhook makes events of a webhook's body. What the plugin left out is filled in: the provider's name as source, the time of the call,
// an empty object as data and as tags. An event without a type is [flowplug.ErrInvalidResponse].
func (p *Provider) ConvertWebhook(ctx context.Context, payload []byte) ([]flowplug.DataEvent, error) {
	const function = "webhook_convert"
	if payload == nil {
		payload = []byte{} // which is "" in JSON, and nil is null
	}
	var events []flowplug.DataEvent
	if err := ask(ctx, p.plugin, function, map[string][]byte{"payload": payload}, &events); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	for i := range events {
		if err := p.complete(&events[i], now); err != nil {
			return nil, misshapen(function, fmt.Errorf("event %d: %w", i, err))
		}
	}
	return events, nil
}

// complete checks an event and fills in what it lacks.
func (p *Provider) complete(event *flowplug.DataEvent, now time.Time) error {
	if event.EventType == "" {
		return errors.New("event_type is empty")
	}
	if event.Source == "" {
		event.Source = p.declared.Name
	}
	if event.CreatedAt.IsZero() {
		event.CreatedAt = now
	}
	for _, object := range []*json.RawMessage{&event.Data, &event.Tags} {
		if *object == nil {
			*object = json.RawMessage("{}")
		}
		if !isObject(*object) {
			return errors.New("data or tags is no JSON object")
		}
	}
	return nil
}

// AuthorizeURL returns where to send a person who wants to connect; the service hands state back in the end. An address that a browser should
// not be sent to, javascript: for one, is [flowplug.ErrInvalidResponse]. Without oauth in the manifest it is [flowplug.ErrNotFound].
func (p *Provider) AuthorizeURL(ctx context.Context, state string) (string, error) {
	const function = "oauth_authorize"
	if !p.declared.OAuth {
		return "", undeclared(function, "provides.provider.oauth")
	}
	var answer struct {
		URL string `json:"url"`
	}
	if err := ask(ctx, p.plugin, function, map[string]string{"state": state}, &answer); err != nil {
		return "", err
	}
	address, err := url.Parse(answer.URL)
	if err != nil {
		return "", misshapen(function, errors.New("url is not a URL")) // without the text, which may hold a secret
	}
	if (address.Scheme != "https" && address.Scheme != "http") || address.Host == "" {
		return "", misshapen(function, errors.New("url is not an absolute address of http or https"))
	}
	return answer.URL, nil
}

// Exchange hands on what the service sent back, and returns the token that the plugin got for the code. Compare state with the one
// that was given to AuthorizeURL first. Without oauth in the manifest it is [flowplug.ErrNotFound].
func (p *Provider) Exchange(ctx context.Context, state, code string) (*Token, error) {
	const function = "oauth_callback"
	if !p.declared.OAuth {
		return nil, undeclared(function, "provides.provider.oauth")
	}
	var token *Token
	if err := ask(ctx, p.plugin, function, map[string]string{"state": state, "code": code}, &token); err != nil {
		return nil, err
	}
	if token == nil {
		return nil, misshapen(function, errNoObject)
	}
	return token, nil
}

// Token is what a plugin got for a code. The fields have OAuth 2.0's names; what is not there is empty.
type Token struct {
	AccessToken  string
	TokenType    string
	RefreshToken string
	Scope        string
	// Raw is the whole object, for what has no field here: expires_in, say, which services write in several ways. It is a secret.
	Raw json.RawMessage
}

// UnmarshalJSON takes any object.
func (t *Token) UnmarshalJSON(data []byte) error {
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return errNoObject // whose text would be the token
	}
	text := func(name string) string { s, _ := fields[name].(string); return s }
	*t = Token{text("access_token"), text("token_type"), text("refresh_token"), text("scope"), append(json.RawMessage(nil), data...)}
	return nil
}

// String hides what is secret, so that a token does not end up in a log.
func (t Token) String() string { return "Token(hidden)" }

// GoString hides what is secret, too.
func (t Token) GoString() string { return t.String() }
