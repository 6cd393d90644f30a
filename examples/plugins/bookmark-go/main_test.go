package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/flowplug/flowplug/sdk/go"
	"github.com/flowplug/flowplug/sdk/go/plugintest"
)

func TestABookmarkIsCreatedListedAndFound(t *testing.T) {
	host := plugintest.NewHost()
	host.HandleFunc("GET http://127.0.0.1/flow", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<html><title> Flow for %s </title>", r.UserAgent())
	})
	plugin := plugintest.Start(t, newBookmarks(), host, map[string]string{"user_agent": "tester"})

	created, err := plugin.Invoke("create", map[string]string{"url": "http://127.0.0.1:8000/flow"})
	if err != nil || !strings.HasPrefix(created.Text, `Saved "Flow for tester" as `) || len(created.Events) != 1 {
		t.Fatalf("%+v, %v", created, err)
	}
	if events := host.Events(); len(events) != 1 || events[0].EventType != "bookmark.created" || events[0].Data["title"] != "Flow for tester" {
		t.Errorf("%+v", events)
	}
	var all []bookmark
	listed, err := plugin.Invoke("list", nil)
	if err != nil || json.Unmarshal(listed.Data, &all) != nil || len(all) != 1 || listed.Text != "1 bookmark(s)" {
		t.Fatalf("%+v, %v", listed, err)
	}
	got, err := plugin.Invoke("get", map[string]string{"id": all[0].ID})
	var found bookmark
	if err != nil || json.Unmarshal(got.Data, &found) != nil || found != all[0] {
		t.Errorf("%+v, %v", got, err)
	}
	if said, err := plugin.Command(sdk.Context{}, nil); err != nil || !strings.HasPrefix(said.Text, "1 bookmark(s) saved.") {
		t.Errorf("%+v, %v", said, err)
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	host := plugintest.NewHost()
	if _, err := plugintest.TryStart(t, newBookmarks(), host, nil); err == nil || err.Error() != "user_agent is empty" {
		t.Error(err)
	}
	host.HandleFunc("example.com/", http.NotFound)
	plugin := plugintest.Start(t, newBookmarks(), host, map[string]string{"user_agent": "tester"})
	for want, ask := range map[string][2]string{
		"no bookmark with id 0":                        {"get", `{"id":"0"}`},
		`no operation "delete"`:                        {"delete", `null`},
		"the params do not have the shape":             {"get", `[1]`},
		"GET http://example.com/ answered 404":         {"create", `{"url":"http://example.com/"}`},
		"http_request: permission denied: the test ha": {"create", `{"url":"http://elsewhere.example.com/"}`},
	} {
		if _, err := plugin.Invoke(ask[0], json.RawMessage(ask[1])); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
	if keys := host.Keys(); len(keys) != 0 {
		t.Error(keys)
	}
}
