package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/tests/plugins/go/plain/pb"
)

// built is where `make plugins` puts the plugin that both hosts start.
const built = "../../target/plugins/fixture-grpc-go"

// client is the host's half of a plugin: go-plugin's own.
type client struct {
	plugin.NetRPCUnsupportedPlugin
	pb.PluginServiceClient
}

func (c *client) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (c *client) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, connection *grpc.ClientConn) (any, error) {
	c.PluginServiceClient = pb.NewPluginServiceClient(connection)
	return c, nil
}

// compareGRPC prints what a call of a Go plugin takes from Go: by go-plugin's client, and by the binding, each with a
// process of its own.
func compareGRPC(ctx context.Context, payload json.RawMessage) error {
	content := json.RawMessage(fmt.Sprintf(`{"do":"echo","x":%s}`, payload))
	theirs, end, err := goPluginWay(ctx)
	if err != nil {
		return err
	}
	defer end()
	ours, endOurs, err := flowplugGRPCWay(ctx, content)
	if err != nil {
		return err
	}
	defer endOurs()
	ways := []way{{"go-plugin's own client", theirs}, {"Runner.Call, a context that can end", ours}}
	fmt.Printf("\nGo: a command of %d B to a Go plugin on go-plugin\n", len(content))
	for _, callers := range []int{1, 8, 64, 1000} {
		medians, err := measureCallers(ways, content, callers)
		if err != nil {
			return err
		}
		for i, w := range ways {
			fmt.Printf("  %4d goroutines, %-38s %7.1f µs a call   %5.2f times go-plugin's speed\n", callers, w.name, medians[i]/1e3, medians[0]/medians[i])
		}
	}
	return nil
}

// measureCallers is measure for goroutines that call side by side: how soon one answer follows another.
func measureCallers(ways []way, params json.RawMessage, callers int) ([]float64, error) {
	const ofRound, rounds = 200, 101
	each := max(ofRound/callers, 1)
	times := make([][]float64, len(ways))
	for range rounds {
		for i, w := range ways {
			ended := make(chan error, callers)
			since := time.Now()
			for range callers {
				go func() {
					_, err := timed(w.echo, params, each)
					ended <- err
				}()
			}
			for range callers {
				if err := <-ended; err != nil {
					return nil, fmt.Errorf("%s: %w", w.name, err)
				}
			}
			times[i] = append(times[i], float64(time.Since(since).Nanoseconds())/float64(callers*each))
		}
	}
	return mediansOf(times), nil
}

func goPluginWay(ctx context.Context) (echo, func(), error) {
	c := &client{}
	process := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "FLOWBOT_PLUGIN", MagicCookieValue: "flowbot-plugin-v1"},
		Plugins:          plugin.PluginSet{"any": c},
		Cmd:              exec.Command(filepath.Join(built, "fixture")),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     time.Minute,
		Logger:           hclog.NewNullLogger(),
	})
	protocol, err := process.Client()
	if err != nil {
		return nil, nil, err
	}
	if _, err := protocol.Dispense("any"); err != nil {
		return nil, nil, err
	}
	if _, err := c.Init(ctx, &pb.InitRequest{Config: "{}"}); err != nil {
		return nil, nil, err
	}
	return func(content json.RawMessage) (json.RawMessage, error) {
		answer, err := c.Command(ctx, &pb.CommandRequest{Context: "{}", Content: string(content)})
		if err != nil {
			return nil, err
		}
		if answer.Error != "" {
			return nil, fmt.Errorf("the plugin: %s", answer.Error)
		}
		return json.RawMessage(answer.Payload), nil
	}, process.Kill, nil
}

func flowplugGRPCWay(ctx context.Context, content json.RawMessage) (echo, func(), error) {
	host, err := flowplug.NewHost(
		flowplug.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		flowplug.WithPolicy(json.RawMessage(`"trusted"`)),
	)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := flowplug.ReadManifest(built)
	if err != nil {
		return nil, nil, err
	}
	runner := host.NewRunner("bench")
	if _, err := runner.Load(ctx, manifest); err != nil {
		return nil, nil, err
	}
	if err := runner.Start(ctx, json.RawMessage("{}")); err != nil {
		return nil, nil, err
	}
	params := json.RawMessage(fmt.Sprintf(`{"context":{},"content":%s}`, content))
	return func(json.RawMessage) (json.RawMessage, error) { return runner.Call(ctx, "command", params) }, func() { _ = host.Close() }, nil
}
