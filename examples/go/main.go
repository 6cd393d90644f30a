// Command go is a program with plugins: it loads each folder given, starts it, calls it, and tells what happened
// and what the plugin asked.
//
//	go run . http://127.0.0.1:8000 ../../target/plugins/bookmark-wasm-go ../../target/plugins/bookmark-grpc-go
//
// Everything that a plugin may ask for is answered by this program: see host.go. The exit code is 0 only if everything
// came back as expected.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: host <site-url> <plugin-folder>...")
		os.Exit(2)
	}
	account := &account{}
	if err := run(account, os.Args[1], os.Args[2:]); err != nil {
		account.surprise("%v", err)
	}
	if account.surprises > 0 {
		os.Exit(1)
	}
}

// run makes the host, runs every plugin and closes it: from then on nothing of this program is called back.
func run(a *account, site string, folders []string) error {
	services := &services{account: a, kv: map[string][]byte{}}
	host, err := flowplug.NewHost(flowplug.WithHostAPI(services), flowplug.WithPolicy(policyFor(folders)))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := runPlugin(a, host, services, site, folder); err != nil {
			a.surprise("%v", err)
		}
		fmt.Println()
	}
	return host.Close()
}

// policyFor is the operator's part: strict for all, and for each plugin named on the command line its runtime and the loopback site.
func policyFor(folders []string) any {
	plugins := map[string]any{}
	for _, folder := range folders {
		plugins[filepath.Base(folder)] = map[string]any{"preset": "strict", "runtimes": []string{"wasm", "grpc"}, "http": []string{"127.0.0.1"}}
	}
	return map[string]any{"default": "strict", "plugins": plugins}
}

// runPlugin is one plugin, from its manifest to its end.
func runPlugin(a *account, host *flowplug.Host, services *services, site, folder string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	manifest, err := flowplug.ReadManifest(folder)
	if err != nil {
		return err
	}
	// A plugin's identity is the name of its folder: where it came from, never what its manifest says.
	identity := filepath.Base(folder)
	fmt.Printf("== %s (%s) with the Go host\n", identity, manifest.Runtime)
	runner := host.NewRunner(identity)
	defer runner.Close()

	since := time.Now()
	info, err := runner.Load(ctx, manifest)
	if err != nil {
		return err
	}
	a.tell("load", since, fmt.Sprintf("name %s %s, provides %s", info.Name, info.Version, provided(info)))
	a.expect(info.Version == "1.10", "version 1.10")

	since = time.Now()
	if err := runner.Start(ctx, json.RawMessage(`{"user_agent":"flowplug-demo"}`)); err != nil {
		return err
	}
	a.tell("start", since, "")
	use(ctx, a, runner, services, site)

	since = time.Now()
	if err := runner.Stop(ctx); err != nil {
		return err
	}
	a.tell("stop", since, "")
	return nil
}

// provided lists a plugin's abilities: `bookmark: list, get, create`.
func provided(info *flowplug.PluginInfo) string {
	var abilities []string
	for _, ability := range info.Provides.Abilities {
		abilities = append(abilities, ability.Capability+": "+strings.Join(ability.Operations, ", "))
	}
	return strings.Join(abilities, "; ")
}

type bookmark struct{ ID, URL, Title string }

// use is everything that is done with a plugin once it runs.
func use(ctx context.Context, a *account, runner *flowplug.Runner, services *services, site string) {
	for _, page := range []struct{ path, title string }{{"/flow", "Flow, and how to find it"}, {"/wasm", "WebAssembly &amp; friends"}} {
		before := services.created()
		text, _ := ability[any](ctx, a, runner, "create", map[string]string{"url": site + page.path})
		a.expect(strings.HasPrefix(text, fmt.Sprintf("Saved \"%s\" as ", page.title)), "the page's title")
		a.expect(services.created() == before+1, "an event bookmark.created")
	}
	text, all := ability[[]bookmark](ctx, a, runner, "list", map[string]string{})
	a.expect(text == "2 bookmark(s)" && len(all) == 2, "two bookmarks")
	for _, one := range all[:min(len(all), 1)] {
		_, got := ability[bookmark](ctx, a, runner, "get", map[string]string{"id": one.ID})
		a.expect(got == one, "the bookmark that the list has")
	}

	var said struct{ Text string }
	call(ctx, a, runner, "command", "command", map[string]any{"context": map[string]any{}, "content": map[string]string{"text": "hello"}}, &said)
	a.expect(strings.HasPrefix(said.Text, "2 bookmark(s) saved."), "the text of the command")
	var help map[string][]string
	call(ctx, a, runner, "help", "help", nil, &help)
	a.expect(len(help["bookmark"]) == 3, "three lines of help")

	// A bookmark that does not exist: the error is the plugin's own, and is shown as what it is.
	since := time.Now()
	_, err := runner.Call(ctx, "ability_call", json.RawMessage(`{"operation":"get","params":{"id":"00000000"}}`))
	var failure *flowplug.Error
	if errors.As(err, &failure) {
		a.tell("get", since, fmt.Sprintf("%s: %s", failure.Status, failure.PluginMessage))
	}
	a.expect(errors.Is(err, flowplug.ErrPlugin), "the plugin's own error")

	since = time.Now()
	health, err := runner.Health(ctx)
	if err != nil {
		a.surprise("%v", err)
		return
	}
	state := map[bool]string{true: "ready", false: "not ready"}[health.Ready]
	a.tell("health", since, fmt.Sprintf("%s, up %.1f s", state, health.Uptime.Seconds()))
	a.expect(health.Ready, "ready")
}

// ability calls an operation of the plugin's ability and returns its text and data.
func ability[T any](ctx context.Context, a *account, runner *flowplug.Runner, operation string, params any) (text string, data T) {
	var result struct {
		Text string
		Data T
	}
	call(ctx, a, runner, operation, "ability_call", map[string]any{"operation": operation, "params": params}, &result)
	return result.Text, result.Data
}

// call calls a function, tells what came back, and reads it into result.
func call(ctx context.Context, a *account, runner *flowplug.Runner, step, function string, params, result any) {
	input, err := json.Marshal(params)
	if err != nil {
		a.surprise("%v", err)
		return
	}
	since := time.Now()
	output, err := runner.Call(ctx, function, input)
	if err != nil {
		a.tell(step, since, err.Error())
		a.surprise("this should have worked")
		return
	}
	a.tell(step, since, shown(output))
	if err := json.Unmarshal(output, result); err != nil {
		a.surprise("%v", err)
	}
}

// shown is what a person wants to see of an answer: its text, or its data, or all of it.
func shown(output json.RawMessage) string {
	var answer struct {
		Text string
		Data json.RawMessage
	}
	switch err := json.Unmarshal(output, &answer); {
	case err == nil && answer.Text != "":
		return answer.Text
	case err == nil && answer.Data != nil:
		return string(answer.Data)
	}
	return string(output)
}
