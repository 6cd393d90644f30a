// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"path/filepath"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/flowbot"
)

// A plugin as flowbot's manager starts it, its module framework starts it again, and an ability calls it.
func ExampleNewRunner() {
	host, err := flowplug.NewHost()
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	folder := filepath.Join("..", "..", "..", "target", "plugins", "bookmark-wasm-go")
	manifest := &plugin.Manifest{
		Name: "bookmarks", Runtime: plugin.RuntimeWasm, Wasm: &plugin.WasmConfig{Module: "plugin.wasm"},
		Provides: plugin.Provides{Module: true, Abilities: []plugin.AbilityDecl{{Capability: "bookmark", Operations: []string{"list"}}}},
	}
	ctx := context.Background()
	var runner plugin.Runner
	if runner, err = flowbot.NewRunner(host, "bookmarks", folder, manifest, nil); err != nil {
		log.Fatal(err)
	}
	if _, err := runner.Load(ctx, manifest); err != nil {
		log.Fatal(err)
	}
	for _, config := range []string{`{"user_agent": "flowbot"}`, `{"enabled": true}`} {
		if err := runner.Start(ctx, json.RawMessage(config)); err != nil {
			log.Fatal(err)
		}
	}
	answer, err := runner.Call(ctx, "ability_call", json.RawMessage(`{"operation": "list", "params": {}}`))
	fmt.Println(string(answer), err)
	fmt.Println(runner.Stop(ctx))
	// Output:
	// {"capability":"bookmark","operation":"list","data":[],"text":"0 bookmark(s)"} <nil>
	// <nil>
}
