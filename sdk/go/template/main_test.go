package main

import (
	"testing"

	sdk "github.com/flowplug/flowplug/sdk/go"
	"github.com/flowplug/flowplug/sdk/go/plugintest"
)

func TestGreetingsAreCounted(t *testing.T) {
	host := plugintest.NewHost()
	host.Set("times/Ada", "1")
	plugin := plugintest.Start(t, newGreeter(), host, map[string]string{"greeting": "Hello"})

	result, err := plugin.Invoke("greet", map[string]string{"name": "Ada"})
	if err != nil || result.Text != "Hello, Ada (2)" {
		t.Errorf("%+v, %v", result, err)
	}
	answer, err := plugin.Command(sdk.Context{UserID: "Bob"}, nil)
	if err != nil || answer.Text != "Hello, Bob (1)" {
		t.Errorf("%+v, %v", answer, err)
	}
	if records := host.Records(); len(records) != 2 || records[0].Fields["name"] != "Ada" {
		t.Error(records)
	}
	if _, err := plugin.Invoke("greet", nil); err == nil {
		t.Error("nobody was greeted")
	}
	host.Fail("kv_set", "the store is full")
	if _, err := plugin.Command(sdk.Context{UserID: "Bob"}, nil); err == nil {
		t.Error("a greeting was lost")
	}
}

func TestAConfigWithoutAGreeting(t *testing.T) {
	if _, err := plugintest.TryStart(t, newGreeter(), plugintest.NewHost(), map[string]string{}); err == nil {
		t.Error("it was taken")
	}
}
