//go:build cgo && linux

package flowplug_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

const greet = `{"operation": "greet", "params": {"name": "Ada"}}`

// Another version takes the place of the one that runs, here the same plugin as a process; what it stored is still there.
func ExampleRunner_Reload() {
	policy := json.RawMessage(`{"plugins": {"greeter": {"runtimes": ["wasm", "grpc"]}}}`)
	host, err := flowplug.NewHost(flowplug.WithPolicy(policy), flowplug.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	ctx := context.Background()
	plugin := host.NewRunner("greeter")
	for _, version := range []string{"template-wasm-go", "template-grpc-go"} {
		manifest, err := flowplug.ReadManifest(built(version))
		if err != nil {
			log.Fatal(err)
		}
		config := json.RawMessage(`{"greeting": "Hello"}`)
		if plugin.State() == flowplug.StateRunning {
			err = plugin.Reload(ctx, manifest, config)
		} else if _, err = plugin.Load(ctx, manifest); err == nil {
			err = plugin.Start(ctx, config)
		}
		if err != nil {
			log.Fatal(err)
		}
		answer, err := plugin.Call(ctx, "ability_call", json.RawMessage(greet))
		fmt.Println(manifest.Runtime, string(answer), err)
	}
	// Output:
	// wasm {"capability":"greeting","operation":"greet","text":"Hello, Ada (1)"} <nil>
	// grpc {"capability":"greeting","operation":"greet","text":"Hello, Ada (2)"} <nil>
}

// A manager runs folders of plugins, each under its folder's name. One that fails stops no other, and the list says why.
func ExampleNewManager() {
	host, err := flowplug.NewHost()
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	manager, err := flowplug.NewManager(host, &flowplug.PluginConfig{Enabled: true, HotReload: true})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	defer manager.Close(ctx)
	// Sources of the PluginConfig are what Init starts and follows; a single folder can be loaded beside them.
	if err := manager.Init(ctx, nil); err != nil {
		log.Fatal(err)
	}
	for _, config := range []string{`{}`, `{"greeting": "Hello"}`} {
		identity, err := manager.Load(ctx, built("template-wasm-go"), json.RawMessage(config))
		fmt.Printf("%q %t\n", identity, err == nil)
	}
	for _, instance := range manager.List() {
		fmt.Println(instance.Identity, instance.State)
	}
	// Output:
	// "" false
	// "template-wasm-go" true
	// template-wasm-go running
}
