//go:build cgo && linux

package flowplug

import (
	"encoding/json"
	"errors"
	"testing"
)

// What was copied from the SDK's template runs here, in both of its builds.
func TestTheTemplateOfTheSDK(t *testing.T) {
	for _, name := range []string{"template-wasm-go", "template-grpc-go"} {
		t.Run(name, func(t *testing.T) {
			r := newTestHost(t).NewRunner("greeter")
			info, err := r.Load(t.Context(), manifestOf(t, name))
			if err != nil || info.Name != "greeter" || len(info.Provides.Abilities) != 1 {
				t.Fatalf("%+v, %v", info, err)
			}
			if err := r.Start(t.Context(), json.RawMessage(`{}`)); !errors.Is(err, ErrInvalidConfig) {
				t.Error("without a greeting:", err)
			}
			if err := r.Start(t.Context(), json.RawMessage(`{"greeting":"Hello"}`)); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"Hello, Ada (1)", "Hello, Ada (2)"} {
				answer, err := r.Call(t.Context(), "ability_call", json.RawMessage(`{"operation":"greet","params":{"name":"Ada"}}`))
				var result struct{ Capability, Text string }
				if err != nil || json.Unmarshal(answer, &result) != nil || result.Text != want || result.Capability != "greeting" {
					t.Errorf("%s, %v", answer, err)
				}
			}
			if _, err := r.Call(t.Context(), "ability_call", json.RawMessage(`{"operation":"greet","params":{}}`)); !errors.Is(err, ErrPlugin) {
				t.Error(err)
			}
			answer, err := r.Call(t.Context(), "command", json.RawMessage(`{"context":{"AsUser":"Bob"},"content":null}`))
			if err != nil || string(answer) != `{"_type":"TextMsg","text":"Hello, Bob (1)"}` {
				t.Errorf("%s, %v", answer, err)
			}
			if health, err := r.Health(t.Context()); err != nil || !health.Ready {
				t.Error(health, err)
			}
		})
	}
}
