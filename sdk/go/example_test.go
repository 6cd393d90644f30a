package sdk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	sdk "github.com/flowplug/flowplug/sdk/go"
	"github.com/flowplug/flowplug/sdk/go/plugintest"
)

// bookmarks has the operations add and count; its main is `func main() { sdk.Serve(newBookmarks()) }`.
type bookmarks struct {
	sdk.ModuleBase
	sdk.Operations
}

func newBookmarks() bookmarks {
	return bookmarks{Operations: sdk.Operations{"add": sdk.Op(add), "count": sdk.Op(count)}}
}

func add(ctx context.Context, asked struct{ URL string }) (any, error) {
	all, _, err := sdk.Load[[]string](ctx, "all")
	if err != nil {
		return nil, err
	}
	if err := sdk.Store(ctx, "all", append(all, asked.URL)); err != nil {
		return nil, err
	}
	event := sdk.DataEvent{EventType: "bookmark.added", EntityID: asked.URL}
	return sdk.InvokeResult{Text: "added " + asked.URL}, sdk.Host(ctx).EmitEvent(ctx, event)
}

func count(ctx context.Context, _ struct{}) (any, error) {
	all, _, err := sdk.Load[[]string](ctx, "all")
	return sdk.InvokeResult{Data: len(all)}, err
}

// A plugin's operations, called as a host calls them, with a host that records. Tests of a plugin do it by plugintest.Start.
func Example() {
	host := plugintest.NewHost()
	ctx := sdk.WithHost(context.Background(), host)
	for _, params := range []string{
		`{"operation": "add", "params": {"url": "https://go.dev"}}`,
		`{"operation": "count"}`,
		`{"operation": "drop"}`,
	} {
		answer, err := sdk.Call(ctx, newBookmarks(), "ability_call", json.RawMessage(params))
		fmt.Println(string(answer), err)
	}
	stored, there := host.Get("all")
	if !there || len(host.Events()) != 1 {
		log.Fatal("nothing was stored, or nobody was told")
	}
	fmt.Println(stored, host.Events()[0].EventType)
	// Output:
	// {"capability":"","operation":"","text":"added https://go.dev"} <nil>
	// {"capability":"","operation":"","data":1} <nil>
	//  no operation "drop": there are add, count
	// ["https://go.dev"] bookmark.added
}
