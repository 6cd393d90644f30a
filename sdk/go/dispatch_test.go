package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// deaf is a host that hears log records alone.
type deaf struct {
	HostAPI
	records []string
}

func (d *deaf) Log(_ context.Context, level Level, message string, fields map[string]string) {
	d.records = append(d.records, level.String()+" "+message+" "+fields["stack"])
}

type unruly struct{ ModuleBase }

func (unruly) Command(context.Context, Context, json.RawMessage) (any, error) { panic("no way") }
func (unruly) IsReady(context.Context) bool                                   { panic("no way") }
func (unruly) Rules(context.Context) (any, error)                             { return make(chan int), nil }
func (unruly) Help(context.Context) (map[string][]string, error)              { return nil, errors.New("") }

func TestPanicBecomesAnErrorAndALogRecord(t *testing.T) {
	host := &deaf{}
	ctx := WithHost(t.Context(), host)
	p := &plugin{unruly{}}
	_, err := p.command(ctx, nil, nil)
	if err == nil || err.Error() != "the plugin panicked in command: no way" {
		t.Errorf("the error is %v", err)
	}
	if len(host.records) != 1 || !strings.HasPrefix(host.records[0], "error panic in command: no way") ||
		!strings.Contains(host.records[0], "unruly") {
		t.Errorf("the records are %q", host.records)
	}
	if p.isReady(ctx) {
		t.Error("a plugin that panics is ready")
	}
}

func TestAnswerThatIsNotJSONIsAnError(t *testing.T) {
	_, err := (&plugin{unruly{}}).rules(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the plugin's answer to rules is not JSON") {
		t.Errorf("the error is %v", err)
	}
}

func TestErrorTextIsNeverEmpty(t *testing.T) {
	_, err := (&plugin{unruly{}}).help(t.Context())
	if err == nil || errorText(err) == "" {
		t.Errorf("the error is %v", err)
	}
}

func TestModuleBase(t *testing.T) {
	p := &plugin{ModuleBase{}}
	ctx := t.Context()
	if err := p.init(ctx, nil); err != nil {
		t.Error(err)
	}
	if !p.isReady(ctx) {
		t.Error("not ready")
	}
	for function, call := range map[string]func() (json.RawMessage, error){
		"command":         func() (json.RawMessage, error) { return p.command(ctx, nil, nil) },
		"form":            func() (json.RawMessage, error) { return p.form(ctx, nil, nil) },
		"ability_call":    func() (json.RawMessage, error) { return p.invoke(ctx, "list", nil) },
		"webhook_convert": func() (json.RawMessage, error) { return p.convertWebhook(ctx, nil) },
		"oauth_authorize": func() (json.RawMessage, error) { return p.oauthAuthorize(ctx, "s") },
		"oauth_callback":  func() (json.RawMessage, error) { return p.oauthCallback(ctx, "s", "c") },
	} {
		if _, err := call(); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", function, err)
		}
	}
	for want, call := range map[string]func(context.Context) (json.RawMessage, error){"[]": p.rules, "{}": p.help, "null": p.bootstrap} {
		if got, err := call(ctx); err != nil || string(got) != want {
			t.Errorf("got %s and %v, want %s", got, err, want)
		}
	}
}

// What goes over the wire, byte for byte.
func TestShapes(t *testing.T) {
	for want, value := range map[string]any{
		`{"_type":"TextMsg","text":"a < b"}`:                                           TextMsg{"a < b"},
		`{"_type":"LinkMsg","title":"t","cover":"","url":"u"}`:                         LinkMsg{Title: "t", URL: "u"},
		`{"_type":"TableMsg","title":"t","header":["h"],"row":[[1]]}`:                  TableMsg{"t", []string{"h"}, [][]any{{1}}},
		`{"_type":"InfoMsg","title":"t","model":null}`:                                 InfoMsg{Title: "t"},
		`{"_type":"ChartMsg","title":"","sub_title":"","x_axis":["a"],"series":[1.5]}`: ChartMsg{XAxis: []string{"a"}, Series: []float64{1.5}},
		`{"_type":"KVMsg","k":1}`:                                                      KVMsg{"k": 1},
		`{"capability":"c","operation":"o","events":[{"event_id":"i","event_type":"t"}]}`: InvokeResult{
			Capability: "c", Operation: "o", Events: []EventRef{{EventID: "i", EventType: "t"}},
		},
		`{"event_type":"t","created_at":"2026-01-02T03:04:05Z","data":{"a":1}}`: DataEvent{
			EventType: "t", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Data: map[string]any{"a": 1},
		},
		`{"method":"GET","url":"u","body":"aGk="}`: HTTPRequest{Method: "GET", URL: "u", Body: []byte("hi")},
	} {
		got, err := encode("test", value)
		if err != nil {
			t.Error(err)
		}
		if string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
