package plugins

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/sys"
)

func TestBookmark(t *testing.T) {
	g := instantiate(t, "bookmark")
	g.fails("init", `{"user_agent":""}`, "user_agent is empty")
	g.want("init", `{"user_agent":"tester"}`, "null")
	if ready, err := g.raw("is_ready"); ready != 1 || err != nil {
		t.Errorf("is_ready: %d, %v", ready, err)
	}
	g.want("bootstrap", "", "null")
	g.want("rules", "", "[]")
	g.want("help", "", `{"bookmark":["list: all bookmarks","get <id>: one bookmark","create <url>: fetch the page's title and save it"]}`)
	g.fails("form", `{"context":{},"values":{"a":"b"}}`, "no form here")
	const url = "http://127.0.0.1/flow"
	g.pages["GET "+url] = "<html><title>\n Flow &amp; more </title></html>"
	g.want("ability_call", `{"operation":"create","params":{"url":"`+url+`"}}`,
		`{"capability":"bookmark","operation":"create","data":{"id":"071d8ec9","url":"http://127.0.0.1/flow","title":"Flow &amp; more"},`+
			`"text":"Saved \"Flow &amp; more\" as 071d8ec9.","events":[{"event_id":"071d8ec9-created","event_type":"bookmark.created","entity_id":"071d8ec9"}]}`)
	g.want("ability_call", `{"operation":"get","params":{"id":"071d8ec9"}}`,
		`{"capability":"bookmark","operation":"get","data":{"id":"071d8ec9","url":"http://127.0.0.1/flow","title":"Flow &amp; more"}}`)
	g.want("ability_call", `{"operation":"list"}`,
		`{"capability":"bookmark","operation":"list","data":[{"id":"071d8ec9","url":"http://127.0.0.1/flow","title":"Flow &amp; more"}],"text":"1 bookmark(s)"}`)
	g.fails("ability_call", `{"operation":"get","params":{"id":"none"}}`, "no bookmark with id none")
	g.fails("ability_call", `{"operation":"create","params":{"url":"http://elsewhere/"}}`, "http_request: no host may be reached but 127.0.0.1")
	data, _, _ := g.call("command", `{"context":{},"content":{"text":"hi"}}`)
	if !strings.Contains(data, "1 bookmark(s) saved.") {
		t.Errorf("command: %s", data)
	}
	if len(g.logs) != 1 || g.logs[0] != `1 bookmark created {"id":"071d8ec9","url":"http://127.0.0.1/flow"}` {
		t.Errorf("the logs are %q", g.logs)
	}
	if len(g.events) != 1 || !strings.HasPrefix(g.events[0], `{"event_type":"bookmark.created","source":"bookmarks","capability":"bookmark",`+
		`"operation":"create","entity_id":"071d8ec9","data":{`) {
		t.Errorf("the events are %q", g.events)
	}
}

func TestHostFunctions(t *testing.T) {
	g := instantiate(t, "fixture")
	g.kv["empty"] = ""
	g.pages["GET http://h/"] = "hello"
	for _, step := range []struct{ fn, args, want string }{
		{"get_config", `{"key":"user_agent"}`, `{"value":"tester"}`},
		{"get_config", `{"key":"none"}`, `{"value":""}`},
		{"get_config", `{"key":"secret"}`, `{"error":"get_config: not for you"}`},
		{"kv_get", `{"key":"none"}`, `{"missing":true}`},
		{"kv_get", `{"key":"empty"}`, `{"value":""}`},
		{"kv_set", `{"key":"k","value":"v"}`, `{"done":true}`},
		{"kv_get", `{"key":"k"}`, `{"value":"v"}`},
		{"kv_set", `{"key":"full","value":"v"}`, `{"error":"kv_set: the store is full"}`},
		{"kv_get", `{"key":"none"}`, `{"missing":true}`},
		{"kv_delete", `{"key":"k"}`, `{"done":true}`},
		{"kv_get", `{"key":"k"}`, `{"missing":true}`},
		{"http_request", `{"url":"http://h/","headers":{"A":"b"}}`, `{"value":{"body":"hello","headers":{"A":"b"},"status":200}}`},
		{"http_request", `{"url":"http://h/no"}`, `{"error":"http_request: no host may be reached but 127.0.0.1"}`},
		{"log", `{"level":3,"message":"m"}`, `{"done":true}`},
		{"emit_event", `{"event_type":"e","tags":{"a":"b"}}`, `{"done":true}`},
	} {
		g.want("command", do(`{"do":"host","fn":"`+step.fn+`","args":`+step.args+`}`), step.want)
	}
	if len(g.logs) != 1 || g.logs[0] != "3 m " {
		t.Errorf("the logs are %q", g.logs)
	}
	if len(g.events) != 1 || g.events[0] != `{"event_type":"e","tags":{"a":"b"}}` {
		t.Errorf("the events are %q", g.events)
	}
}

func TestErrorsAndPanicsAreEnvelopes(t *testing.T) {
	g := instantiate(t, "fixture")
	g.fails("command", do(`{"do":"error","text":"nothing \"there\""}`), `nothing "there"`)
	g.fails("command", do(`{"do":"error","text":""}`), "the plugin failed and gave no reason")
	g.fails("command", do(`{"do":"panic","text":"oh no"}`), "the plugin panicked in command: oh no")
	g.fails("command", do(`{"do":"config"}`), "the plugin panicked in command: runtime error: invalid memory address")
	if len(g.logs) != 2 || !strings.Contains(g.logs[0], "3 panic in command: oh no") || !strings.Contains(g.logs[0], `{"stack":"goroutine`) {
		t.Errorf("the logs are %q", g.logs)
	}
	g.fails("init", `{"panic":"in init"}`, "the plugin panicked in init: in init")
	g.fails("init", `{"fail":"no"}`, "no")
	g.fails("oauth_authorize", `{"state":1}`, "the parameters of the call do not have the shape this function takes")
	g.want("ability_call", `{"operation":"echo","params":1,"payload":2,"code":3}`, `{"capability":"echo","operation":"echo","data":1}`)
	g.fails("command", `[1]`, "the parameters of the call do not have the shape this function takes")
	g.fails("command", `{`, "the parameters of the call do not have the shape this function takes")
	g.fails("command", `{"context":[1]}`, "the context of a call must be a JSON object")
	g.fails("command", do(`{"do":"nonsense"}`), `the fixture cannot do "nonsense"`)
	g.want("command", do(`{"do":"echo","text":"alive"}`), `{"do":"echo","text":"alive"}`)
}

func TestParametersThatAreNotAllocsAreAnError(t *testing.T) {
	g := instantiate(t, "fixture")
	packed, err := g.raw("command", 64, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := g.module.Memory().Read(uint32(packed>>32), uint32(packed))
	if !strings.Contains(string(text), "the host passed 1048576 bytes at 0x40, where alloc gave it 0") {
		t.Errorf("the envelope is %s", text)
	}
	if address, err := g.raw("alloc", 0xffffffff); address != 0 || err != nil {
		t.Errorf("alloc of 4 GiB: %d, %v", address, err)
	}
	if address, err := g.raw("alloc", 0); address == 0 || err != nil {
		t.Errorf("alloc of nothing: %d, %v", address, err)
	}
	if _, err := g.raw("free", 12345); err != nil {
		t.Errorf("free of what is not there: %v", err)
	}
}

func TestProvider(t *testing.T) {
	g := instantiate(t, "fixture")
	g.want("webhook_convert", `{"payload":"aGk="}`, `[{"event_type":"fixture.webhook","source":"fixture","data":{"payload":"hi"}}]`)
	g.fails("webhook_convert", `{"payload":""}`, "the webhook is empty")
	g.want("oauth_authorize", `{"state":"s"}`, `{"url":"https://login.example.com/authorize?state=s"}`)
	g.want("oauth_callback", `{"state":"s","code":"c"}`, `{"access_token":"token-for-c","state":"s"}`)
	g.want("form", `{"context":{"Platform":"slack"},"values":{"a":"b","n":1}}`, `{"_type":"InfoMsg","title":"slack","model":{"a":"b","n":"1"}}`)
	g.want("ability_call", `{"operation":"echo","params":{"a":[1]}}`, `{"capability":"echo","operation":"echo","data":{"a":[1]}}`)
	g.want("input", `{"context":{},"head":{"n":1},"content":[2]}`, `{"_type":"KVMsg","content":[2],"n":1}`)
	b := instantiate(t, "bookmark")
	b.fails("input", `{}`, "unsupported: this plugin has no input")
	b.fails("webhook_convert", `{"payload":"aGk="}`, "unsupported: this plugin has no webhooks")
	b.fails("oauth_callback", `{"state":"s","code":"c"}`, "unsupported: this plugin has no OAuth")
}

// Everything the host writes into and reads from has to survive a garbage collector that runs all the time, with garbage made in between.
func TestThousandCallsUnderTheGarbageCollector(t *testing.T) {
	g := instantiate(t, "fixture")
	g.churn = true
	for i := range 500 { // two calls each
		text := strings.Repeat(fmt.Sprintf("%04d", i), 1+i%256)
		key := fmt.Sprintf("k%d", i%10)
		g.want("command", do(`{"do":"host","fn":"kv_set","args":{"key":"`+key+`","value":"`+text+`"}}`), `{"done":true}`)
		g.pages["GET http://h/"] = text
		g.want("command", do(`{"do":"host","fn":"http_request","args":{"url":"http://h/"}}`), `{"value":{"body":"`+text+`","headers":null,"status":200}}`)
		if g.kv[key] != text {
			t.Fatalf("call %d: the store has %.40q", i, g.kv[key])
		}
		if t.Failed() {
			return
		}
	}
	if size := g.module.Memory().Size(); size > 64<<20 {
		t.Errorf("after a thousand calls the instance has %d bytes: buffers are kept for ever", size)
	}
}

func TestValuesOfEverySize(t *testing.T) {
	g := instantiate(t, "fixture")
	for _, size := range []int{0, 1, 4095, 4096, 4097, 1 << 20, 5000} {
		g.kv["k"] = strings.Repeat("v", size)
		g.want("command", do(`{"do":"host","fn":"kv_get","args":{"key":"k"}}`), `{"value":"`+g.kv["k"]+`"}`)
	}
}

func TestBigAnswer(t *testing.T) {
	g := instantiate(t, "fixture")
	data, failure, trap := g.call("command", do(`{"do":"big","bytes":4194304}`))
	if len(data) != 4<<20 || failure != nil || trap != nil {
		t.Errorf("%d bytes, %s, %v", len(data), show(failure), trap)
	}
}

func TestOutputAndTime(t *testing.T) {
	g := instantiate(t, "fixture")
	g.want("command", do(`{"do":"output","lines":2}`), "null")
	for _, line := range []string{"out 1\n", "err 1\n", `"@message":"from hclog"`} {
		if !strings.Contains(g.output.String(), line) {
			t.Errorf("%q is not in the output: %s", line, g.output.String())
		}
	}
	g.want("command", do(`{"do":"sleep","ms":5}`), `{"slept":5}`)
	g.want("command", do(`{"do":"calls"}`), `{"calls":3}`)
}

func TestCrashIsAnExit(t *testing.T) {
	g := instantiate(t, "fixture")
	_, _, trap := g.call("command", do(`{"do":"crash"}`))
	var exit *sys.ExitError
	if !errors.As(trap, &exit) || exit.ExitCode() != 3 {
		t.Errorf("the call ended with %v", trap)
	}
}
