package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/flowplug/flowplug/tests/plugins/go/plain/pb"
)

// client is the host's half of the plugin.
type client struct{ plugin.NetRPCUnsupportedPlugin }

func (client) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (client) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, connection *grpc.ClientConn) (any, error) {
	return pb.NewPluginServiceClient(connection), nil
}

// The fixture does what it says under go-plugin's own host, so that a test which fails with it elsewhere has found something elsewhere.
func TestPlainUnderGoPlugin(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "plain")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	process := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "FLOWBOT_PLUGIN", MagicCookieValue: "flowbot-plugin-v1"},
		Plugins:          plugin.PluginSet{"anything": client{}},
		Cmd:              exec.Command(binary),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		Logger:           hclog.NewNullLogger(),
	})
	defer process.Kill()
	protocol, err := process.Client()
	if err != nil {
		t.Fatal(err)
	}
	dispensed, err := protocol.Dispense("anything")
	if err != nil {
		t.Fatal(err)
	}
	service := dispensed.(pb.PluginServiceClient)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := service.Init(ctx, &pb.InitRequest{}); err != nil {
		t.Errorf("init: %v", err)
	}
	if got, err := service.Command(ctx, &pb.CommandRequest{Content: `{"a":1}`}); err != nil || got.Payload != `{"a":1}` {
		t.Errorf("command: %v, %v", got, err)
	}
	if got, err := service.Command(ctx, &pb.CommandRequest{}); err != nil || got.Error != "say something" {
		t.Errorf("command without content: %v, %v", got, err)
	}
	if _, err := service.Help(ctx, &emptypb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("help: %v", err)
	}
}
