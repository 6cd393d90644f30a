//go:build !wasip1

package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/flowplug/flowplug/sdk/go/internal/pb"
)

func TestBookmarkUnderGoPlugin(t *testing.T) {
	g, h := hosted(t, "bookmark", `{"user_agent":"tester"}`, nil)
	if err := g.health(); err != nil {
		t.Errorf("health: %v", err)
	}
	if ready, err := g.IsReady(within(t), &emptypb.Empty{}); err != nil || !ready.Ready {
		t.Errorf("ready: %v, %v", ready, err)
	}
	const url = "http://127.0.0.1/flow"
	h.pages["GET "+url] = "<html><title>\n Flow &amp; more </title></html>"
	created := ability(t, g, "create", `{"url":"`+url+`"}`, "")
	want := `{"capability":"bookmark","operation":"create","data":{"id":"071d8ec9","url":"http://127.0.0.1/flow","title":"Flow &amp; more"},` +
		`"text":"Saved \"Flow &amp; more\" as 071d8ec9.",` +
		`"events":[{"event_id":"071d8ec9-created","event_type":"bookmark.created","entity_id":"071d8ec9"}]}`
	if created != want {
		t.Errorf("created\n%s\nwant\n%s", created, want)
	}
	ability(t, g, "create", `{"url":"`+url+`"}`, "") // again: the index keeps it once
	if got := string(h.kv["index"]); got != `["071d8ec9"]` {
		t.Errorf("the index is %s", got)
	}
	if got := ability(t, g, "get", `{"id":"071d8ec9"}`, ""); !strings.Contains(got, `"title":"Flow`) {
		t.Errorf("get: %s", got)
	}
	if got := ability(t, g, "list", `{}`, ""); !strings.HasSuffix(got, `"text":"1 bookmark(s)"}`) {
		t.Errorf("list: %s", got)
	}
	ability(t, g, "get", `{"id":"none"}`, "no bookmark with id none")
	ability(t, g, "create", `{"url":"http://127.0.0.1/none"}`, "GET http://127.0.0.1/none answered 404")
	ability(t, g, "drop", `{}`, `no operation "drop": there are create, get, list`)
	if len(h.events) != 2 || h.events[0].Source != "bookmarks" || h.events[0].EventType != "bookmark.created" ||
		h.events[0].Payload != `{"entity_id":"071d8ec9","title":"Flow \u0026amp; more","url":"http://127.0.0.1/flow"}` {
		t.Errorf("the events are %v", h.events)
	}
	if len(h.records) != 2 || h.records[0].Level != "info" ||
		h.records[0].Message != "bookmark created" || h.records[0].Fields["id"] != "071d8ec9" {
		t.Errorf("the records are %v", h.records)
	}
}

func ability(t *testing.T, g *guest, operation, params, failure string) string {
	t.Helper()
	answer, err := g.AbilityCall(within(t), &pb.CallRequest{Operation: operation, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Error != failure {
		t.Errorf("%s %s: the error is %q, want %q", operation, params, answer.Error, failure)
	}
	return answer.Result
}

func TestTheRestOfBookmark(t *testing.T) {
	g, _ := hosted(t, "bookmark", `{"user_agent":"tester"}`, nil)
	ctx := within(t)
	command, err := g.Command(ctx, &pb.CommandRequest{Content: "not JSON: a plain text"})
	if want := `{"_type":"TextMsg","text":"0 bookmark(s) saved. Try: list, get <id>, create <url>."}`; err != nil || command.Payload != want {
		t.Errorf("command: %v, %v", command, err)
	}
	if form, err := g.Form(ctx, &pb.FormRequest{}); err != nil || form.Error != "no form here" {
		t.Errorf("form: %v, %v", form, err)
	}
	if rules, err := g.Rules(ctx, &emptypb.Empty{}); err != nil || rules.Rules != "[]" {
		t.Errorf("rules: %v, %v", rules, err)
	}
	if help, err := g.Help(ctx, &emptypb.Empty{}); err != nil || !strings.HasPrefix(help.Help, `{"bookmark":["list: all bookmarks",`) {
		t.Errorf("help: %v, %v", help, err)
	}
	if _, err := g.Bootstrap(ctx, &emptypb.Empty{}); err != nil {
		t.Errorf("bootstrap: %v", err)
	}
	_, err = g.Init(ctx, &pb.InitRequest{Config: `{"user_agent":""}`})
	if status.Convert(err).Message() != "user_agent is empty" {
		t.Errorf("init: %v", err)
	}
}

func TestProviderUnderGoPlugin(t *testing.T) {
	g, _ := hosted(t, "fixture", "", nil)
	ctx := within(t)
	if got, err := g.WebhookConvert(ctx, &pb.WebhookConvertRequest{Payload: []byte("hi")}); err != nil ||
		got.Result != `[{"event_type":"fixture.webhook","source":"fixture","data":{"payload":"hi"}}]` {
		t.Errorf("webhook_convert: %v, %v", got, err)
	}
	if got, err := g.OAuthCallback(ctx, &pb.OAuthCallbackRequest{State: "s", Code: "c"}); err != nil ||
		got.Result != `{"access_token":"token-for-c","state":"s"}` {
		t.Errorf("oauth_callback: %v, %v", got, err)
	}
	got := ability(t, g, "oauth_authorize", `{"state":"s"}`, "")
	if got != `{"url":"https://login.example.com/authorize?state=s"}` {
		t.Errorf("oauth_authorize: %s", got)
	}
	form, err := g.Form(ctx, &pb.FormRequest{Context: `{"Platform":"slack"}`, Values: map[string]string{"a": "b"}})
	if err != nil || form.Payload != `{"_type":"InfoMsg","title":"slack","model":{"a":"b"}}` {
		t.Errorf("form: %v, %v", form, err)
	}
}

func TestHostFunctions(t *testing.T) {
	g, h := hosted(t, "fixture", "", nil)
	ctx := metadata.AppendToOutgoingContext(within(t), "flowplug-call", "call-7")
	h.kv["empty"] = nil
	steps := []struct{ order, want string }{
		{`{"do":"host","fn":"get_config","args":{"key":"user_agent"}}`, `{"value":"tester"}`},
		{`{"do":"host","fn":"get_config","args":{"key":"none"}}`, `{"value":""}`},
		{`{"do":"host","fn":"get_config","args":{"key":"secret"}}`, `{"error":"get_config: not for you"}`},
		{`{"do":"host","fn":"kv_get","args":{"key":"none"}}`, `{"missing":true}`},
		{`{"do":"host","fn":"kv_get","args":{"key":"empty"}}`, `{"value":""}`},
		{`{"do":"host","fn":"kv_set","args":{"key":"k","value":"v"}}`, `{"done":true}`},
		{`{"do":"host","fn":"kv_get","args":{"key":"k"}}`, `{"value":"v"}`},
		{`{"do":"host","fn":"kv_delete","args":{"key":"k"}}`, `{"done":true}`},
		{`{"do":"host","fn":"kv_get","args":{"key":"k"}}`, `{"missing":true}`},
		{`{"do":"host","fn":"kv_set","args":{"key":"full","value":"v"}}`, `{"error":"kv_set: the store is full"}`},
		{`{"do":"host","fn":"http_request","args":{"url":"http://h/none"}}`, `{"value":{"body":"","headers":null,"status":404}}`},
		{`{"do":"host","fn":"log","args":{"level":2,"message":"m","fields":{"a":"b"}}}`, `{"done":true}`},
		{`{"do":"host","fn":"emit_event","args":{"event_type":"e","source":"s"}}`, `{"done":true}`},
	}
	for _, step := range steps {
		if got, failure := do(t, g, ctx, step.order); got != step.want || failure != "" {
			t.Errorf("%s: got %s %s, want %s", step.order, got, failure, step.want)
		}
	}
	if h.calls["call-7"] != len(steps) || len(h.calls) != 1 {
		t.Errorf("the ids handed back are %v, want call-7 %d times", h.calls, len(steps))
	}
	if !h.bounded {
		t.Error("a host call came without a deadline")
	}
	if len(h.records) != 1 || h.records[0].Level != "warn" || h.records[0].Fields["a"] != "b" {
		t.Errorf("the records are %v", h.records)
	}
}

func TestHostThroughTheBroker(t *testing.T) {
	h := newHost()
	g := launch(t, "fixture", nil)
	id := g.broker.NextId()
	go g.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server { return h.server(options...) })
	if _, err := g.Init(within(t), &pb.InitRequest{HostBrokerId: id}); err != nil {
		t.Fatal(err)
	}
	if got, failure := do(t, g, within(t), `{"do":"host","fn":"kv_set","args":{"key":"k","value":"v"}}`); got != `{"done":true}` {
		t.Errorf("got %s %s", got, failure)
	}
	if string(h.kv["k"]) != "v" {
		t.Errorf("the store has %q", h.kv["k"])
	}
}

func TestNoHostToAsk(t *testing.T) {
	g := launch(t, "fixture", nil)
	for _, fn := range []string{"get_config", "kv_get", "kv_set", "kv_delete", "http_request", "emit_event"} {
		got, failure := do(t, g, within(t), `{"do":"host","fn":"`+fn+`","args":{}}`)
		if !strings.HasPrefix(got, `{"error":"`+fn+`: no host to ask`) {
			t.Errorf("%s: got %s %s", fn, got, failure)
		}
	}
	if got, failure := do(t, g, within(t), `{"do":"host","fn":"log","args":{"message":"lost"}}`); got != `{"done":true}` {
		t.Errorf("log: got %s %s", got, failure)
	}
}

func TestPanicLeavesTheProcessAlive(t *testing.T) {
	g, h := hosted(t, "fixture", "", nil)
	pid, _ := do(t, g, within(t), `{"do":"pid"}`)
	if _, failure := do(t, g, within(t), `{"do":"panic","text":"oh no"}`); failure != "the plugin panicked in command: oh no" {
		t.Errorf("the error is %q", failure)
	}
	if len(h.records) != 1 || !strings.Contains(h.records[0].Fields["stack"], "Command") {
		t.Errorf("the records are %v", h.records)
	}
	_, err := g.Init(within(t), &pb.InitRequest{Config: `{"panic":"in init"}`})
	if status.Convert(err).Message() != "the plugin panicked in init: in init" {
		t.Errorf("init: %v", err)
	}
	if again, _ := do(t, g, within(t), `{"do":"pid"}`); again != pid {
		t.Errorf("the process was %s and is %s", pid, again)
	}
}

func TestErrorsOfThePlugin(t *testing.T) {
	g, _ := hosted(t, "fixture", "", nil)
	if _, failure := do(t, g, within(t), `{"do":"error","text":"nothing there"}`); failure != "nothing there" {
		t.Errorf("the error is %q", failure)
	}
	if _, failure := do(t, g, within(t), `{"do":"error","text":""}`); failure == "" {
		t.Error("an error without a text was taken for success")
	}
	if _, failure := do(t, g, within(t), `not JSON`); !strings.HasPrefix(failure, "the content must be an object with do") {
		t.Errorf("the error is %q", failure)
	}
}

func TestDeadlineReachesThePlugin(t *testing.T) {
	g, h := hosted(t, "fixture", "", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := g.Command(ctx, &pb.CommandRequest{Content: `{"do":"sleep","ms":60000}`})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the error is %v", err)
	}
	// The plugin itself has let go of the call: its host call with a dead ctx says so, and the next call is served.
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, failure := do(t, g, ctx, `{"do":"sleep","ms":1}`); got != `{"slept":1}` {
		t.Errorf("got %s %s", got, failure)
	}
	if !h.bounded {
		t.Error("a host call came without a deadline")
	}
}

func TestBigAnswersBothWays(t *testing.T) {
	g, _ := hosted(t, "fixture", "", nil)
	const size = 16 << 20 // gRPC's own bound is 4 MiB
	large := grpc.MaxCallRecvMsgSize(64 << 20)
	answer, err := g.Command(within(t), &pb.CommandRequest{Content: fmt.Sprintf(`{"do":"big","bytes":%d}`, size)}, large)
	if err != nil || len(answer.Payload) != size {
		t.Fatalf("%d bytes, %v", len(answer.GetPayload()), err)
	}
	echo := `{"do":"echo","text":` + answer.Payload + `}`
	answer, err = g.Command(within(t), &pb.CommandRequest{Content: echo}, large, grpc.MaxCallSendMsgSize(64<<20))
	if err != nil || answer.Payload != echo {
		t.Errorf("the echo is not what was sent: %d bytes, %v", len(answer.GetPayload()), err)
	}
}

func TestCrashEndsTheProcess(t *testing.T) {
	g, _ := hosted(t, "fixture", "", nil)
	_, err := g.Command(within(t), &pb.CommandRequest{Content: `{"do":"crash"}`})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the error is %v", err)
	}
	g.process.Kill() // waits for the process, which is gone
	if !g.process.Exited() {
		t.Error("the process lives")
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	g, h := hosted(t, "fixture", "", nil)
	var wait sync.WaitGroup
	failures := make([]error, 16)
	for i := range failures {
		wait.Add(1)
		go func() {
			defer wait.Done()
			ctx := metadata.AppendToOutgoingContext(within(t), "flowplug-call", fmt.Sprint("call-", i))
			for range 50 {
				order := fmt.Sprintf(`{"do":"host","fn":"kv_set","args":{"key":"k%d","value":"v"}}`, i)
				answer, err := g.Command(ctx, &pb.CommandRequest{Content: order})
				if err == nil && answer.Payload != `{"done":true}` {
					err = errors.New(answer.String())
				}
				failures[i] = errors.Join(failures[i], err)
			}
		}()
	}
	wait.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Error(err)
	}
	for i := range failures {
		if got := h.calls[fmt.Sprint("call-", i)]; got != 50 {
			t.Errorf("call-%d was handed back %d times", i, got)
		}
	}
}

func TestContextAsTheSDKReadsIt(t *testing.T) {
	g, _ := hosted(t, "fixture", `{"a":1}`, nil)
	answer, err := g.Command(within(t), &pb.CommandRequest{Context: `{"Id":"i","AsUser":"u"}`, Content: `{"do":"context"}`})
	var who struct{ ID, UserID string }
	if err != nil || json.Unmarshal([]byte(answer.Payload), &who) != nil || who.ID != "i" || who.UserID != "u" {
		t.Errorf("got %v, %v", answer, err)
	}
	if config, _ := do(t, g, within(t), `{"do":"config"}`); config != `{"a":1}` {
		t.Errorf("the config is %s", config)
	}
	if answer, err = g.Command(within(t), &pb.CommandRequest{Context: `[1]`}); err != nil || answer.Error == "" {
		t.Errorf("a context that is no object: %v, %v", answer, err)
	}
}
