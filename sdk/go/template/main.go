// Command greeter is a plugin to start from: copy this folder and write what your plugin does.
//
// The copy names its own module, and where the SDK is (a clone of flowplug's repository, in FLOWPLUG):
//
//	go mod edit -module=example.com/greeter -replace=github.com/flowplug/flowplug/sdk/go="$FLOWPLUG/sdk/go"
//	go test .
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o plugin.wasm . # a module, with plugin.wasm.yaml
//	CGO_ENABLED=0 go build -trimpath -o greeter .                                                    # a process, with plugin.grpc.yaml
//
// A host looks for plugin.yaml: that is one of the two manifests, renamed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	sdk "github.com/flowplug/flowplug/sdk/go"
)

func main() { sdk.Serve(newGreeter()) }

// greeter has commands from ModuleBase, but for those it writes itself, and its operations from Operations. What it must not forget is in
// the host's key-value store: an instance of a plugin can end after any call.
type greeter struct {
	sdk.ModuleBase
	sdk.Operations
}

func newGreeter() greeter {
	return greeter{Operations: sdk.Operations{"greet": sdk.Op(greet)}}
}

// Init checks what the schema in the manifest cannot.
func (greeter) Init(_ context.Context, config json.RawMessage) error {
	var settings struct{ Greeting string }
	if err := json.Unmarshal(config, &settings); err != nil {
		return err
	}
	if settings.Greeting == "" {
		return errors.New("greeting is empty")
	}
	return nil
}

// Command answers a person.
func (greeter) Command(ctx context.Context, who sdk.Context, _ json.RawMessage) (any, error) {
	text, err := greeting(ctx, who.UserID)
	return sdk.TextMsg{Text: text}, err
}

// greet is an operation that other parts of the host call.
func greet(ctx context.Context, asked struct{ Name string }) (any, error) {
	if asked.Name == "" {
		return nil, errors.New("name is missing")
	}
	text, err := greeting(ctx, asked.Name)
	return sdk.InvokeResult{Capability: "greeting", Operation: "greet", Text: text}, err
}

// greeting counts how often somebody was greeted, and tells the host about it.
func greeting(ctx context.Context, name string) (string, error) {
	word, _, err := sdk.Config[string](ctx, "greeting")
	if err != nil {
		return "", err
	}
	times, _, err := sdk.Load[int](ctx, "times/"+name)
	if err != nil {
		return "", err
	}
	times++
	if err := sdk.Store(ctx, "times/"+name, times); err != nil {
		return "", err
	}
	sdk.Logger(ctx).Info("greeted", "name", name, "times", times)
	return fmt.Sprintf("%s, %s (%d)", word, name, times), nil
}
