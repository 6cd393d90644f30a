//go:build cgo && linux

package adapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/adapter"
)

// A host talks to a plugin as to a part of its own.
func Example() {
	folder := os.Getenv("FLOWPLUG_TEST_PLUGINS")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "target", "plugins")
	}
	ctx := context.Background()
	host, err := flowplug.NewHost(flowplug.WithPolicy("trusted"))
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	manifest, err := flowplug.ReadManifest(filepath.Join(folder, "bookmark-wasm-c"))
	if err != nil {
		log.Fatal(err)
	}
	plugin := host.NewRunner("bookmarks")
	info, err := plugin.Load(ctx, manifest)
	if err != nil {
		log.Fatal(err)
	}
	module := adapter.NewModule(plugin)
	if err := module.Init(ctx, json.RawMessage(`{"user_agent": "example"}`)); err != nil {
		log.Fatal(err)
	}

	message, err := module.Command(ctx, adapter.Context{Platform: "slack", UserID: "u1"}, "hello")
	if err != nil {
		log.Fatal(err)
	}
	switch message := message.(type) {
	case adapter.TextMsg:
		fmt.Println(message.Text)
	case adapter.KVMsg:
		fmt.Println(len(message), "values")
	}

	for _, ability := range adapter.Abilities(plugin, info.Provides) {
		result, err := ability.Invoke(ctx, "list", nil)
		fmt.Println(ability.Capability, result.Text, err)
	}
	// Output:
	// 0 bookmark(s) saved. Try: list, get <id>, create <url>.
	// bookmark 0 bookmark(s) <nil>
}
