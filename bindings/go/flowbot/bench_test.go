// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"context"
	"encoding/json"
	"testing"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// What flowbot's interface adds to a call: the library's own Runner beside it, with the params that flowbot's adapters write.
func BenchmarkCall(b *testing.B) {
	params := map[string]json.RawMessage{
		"ability_call": json.RawMessage(`{"operation":"echo","params":{"n":7}}`),
		"command":      json.RawMessage(`{"content":{"do":"echo"},"context":{"Id":"m1","Platform":"slack","Topic":"c1","AsUser":"u1","FormRuleId":"","FormId":"","Headers":null}}`),
	}
	for runtime, name := range fixtures {
		host := newHost(b, flowplug.WithPolicy("trusted"))
		over := loaded(b, host, "fixture", name, nil)
		manifest, err := flowplug.ReadManifest(built(b, name))
		if err != nil {
			b.Fatal(err)
		}
		under := host.NewRunner("fixture")
		if _, err := under.Load(b.Context(), manifest); err != nil {
			b.Fatal(err)
		}
		for by, runner := range map[string]interface {
			Start(context.Context, json.RawMessage) error
			Call(context.Context, string, json.RawMessage) (json.RawMessage, error)
		}{"flowbot": over, "flowplug": under} {
			if err := runner.Start(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
			for function, params := range params {
				b.Run(runtime+"/"+function+"/"+by, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := runner.Call(context.Background(), function, params); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
