//go:build cgo && linux

package flowplug_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// program answers the plugins' log; everything else is left to the library.
type program struct{ flowplug.UnimplementedHostAPI }

func (program) Log(ctx context.Context, level, msg string, _ map[string]string) {
	identity, _ := flowplug.PluginFromContext(ctx)
	if identity != "" {
		fmt.Println(identity, level, msg)
	}
}

// built is the folder of one of this repository's own plugins.
func built(name string) string {
	folder := os.Getenv("FLOWPLUG_TEST_PLUGINS")
	if folder == "" {
		folder = filepath.Join("..", "..", "target", "plugins")
	}
	return filepath.Join(folder, name)
}

// A program loads a plugin, starts it, calls it and closes everything.
func Example() {
	if err := run(built("bookmark-wasm-c")); err != nil {
		fmt.Println(err)
	}
	// Output:
	// bookmarks 1.10
	// 0 bookmark(s)
}

func run(folder string) error {
	ctx := context.Background()
	manifest, err := flowplug.ReadManifest(folder)
	if err != nil {
		return err
	}
	// The policy: this plugin may run as what its manifest asks for, others only in the sandbox.
	host, err := flowplug.NewHost(flowplug.WithHostAPI(program{}), flowplug.WithPolicy(map[string]any{
		"plugins": map[string]any{"bookmarks": "trusted"},
	}))
	if err != nil {
		return err
	}
	defer host.Close()
	runner := host.NewRunner("bookmarks")
	defer runner.Close()
	info, err := runner.Load(ctx, manifest)
	if err != nil {
		return err
	}
	fmt.Println(info.Name, info.Version)
	if err := runner.Start(ctx, json.RawMessage(`{"user_agent":"example"}`)); err != nil {
		return err
	}
	result, err := runner.Call(ctx, "ability_call", json.RawMessage(`{"operation":"list","params":{}}`))
	if err != nil {
		return err
	}
	var answer struct{ Text string }
	if err := json.Unmarshal(result, &answer); err != nil {
		return err
	}
	fmt.Println(answer.Text)
	return runner.Stop(ctx)
}
