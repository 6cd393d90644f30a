package plugins

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

// dialogue is the host's half of a plugin: go-plugin's own.
type dialogue struct {
	plugin.NetRPCUnsupportedPlugin
	pb.PluginServiceClient
	broker *plugin.GRPCBroker
}

func (d *dialogue) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (d *dialogue) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, connection *grpc.ClientConn) (any, error) {
	d.PluginServiceClient, d.broker = pb.NewPluginServiceClient(connection), broker
	return d, nil
}

// store is a HostService with a store that refuses one key.
type store struct {
	pb.UnimplementedHostServiceServer
	mu     sync.Mutex
	kv     map[string]string
	config map[string]string
}

func (s *store) GetConfig(_ context.Context, r *pb.GetConfigRequest) (*pb.GetConfigResponse, error) {
	return &pb.GetConfigResponse{Value: s.config[r.Key]}, nil
}

func (s *store) Log(context.Context, *pb.LogRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (s *store) KVGet(_ context.Context, r *pb.KVGetRequest) (*pb.KVGetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, found := s.kv[r.Key]
	return &pb.KVGetResponse{Value: []byte(value), Missing: !found}, nil
}

func (s *store) KVSet(_ context.Context, r *pb.KVSetRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Key == "full" {
		return nil, status.Error(codes.ResourceExhausted, "the store is full")
	}
	s.kv[r.Key] = string(r.Value)
	return &emptypb.Empty{}, nil
}

// hosted starts a plugin that `make plugins` has built, as any program on go-plugin would.
func hosted(t *testing.T, name, binary string, mtls bool) (*dialogue, plugin.ClientProtocol, error) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../target/plugins", name, binary))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("it is not there: run `make plugins`: %v", err)
	}
	d := &dialogue{}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "FLOWBOT_PLUGIN", MagicCookieValue: "flowbot-plugin-v1"},
		Plugins:          plugin.PluginSet{"any": d},
		Cmd:              exec.Command(path),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         mtls,
		StartTimeout:     time.Minute,
		Logger:           hclog.NewNullLogger(),
	})
	t.Cleanup(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		return nil, nil, err
	}
	_, err = protocol.Dispense("any")
	return d, protocol, err
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (d *dialogue) order(t *testing.T, content string) (answer map[string]any, failure string) {
	t.Helper()
	got, err := d.Command(soon(t), &pb.CommandRequest{Content: content})
	if err != nil {
		t.Fatalf("%s: %v", content, err)
	}
	if got.Error == "" && json.Unmarshal([]byte(got.Payload), &answer) != nil {
		t.Fatalf("%s: the payload is %s", content, got.Payload)
	}
	return answer, got.Error
}

// Plugins on the SDKs under the host that go-plugin's own users have.
func TestSDKsUnderGoPlugin(t *testing.T) {
	for _, the := range []struct {
		name, folder string
		mtls         bool
	}{
		{"go", "fixture-grpc-go", false},
		{"go with AutoMTLS", "fixture-grpc-go", true},
		{"python", "fixture-grpc-python", false},
	} {
		t.Run(the.name, func(t *testing.T) {
			d, protocol, err := hosted(t, the.folder, "fixture", the.mtls)
			if err != nil {
				t.Fatal(err)
			}
			if err := protocol.Ping(); err != nil {
				t.Errorf("health: %v", err)
			}
			if _, err := d.Init(soon(t), &pb.InitRequest{Config: `{"a":1}`}); err != nil {
				t.Fatalf("init: %v", err)
			}
			if ready, err := d.IsReady(soon(t), &emptypb.Empty{}); err != nil || !ready.Ready {
				t.Errorf("ready: %v, %v", ready, err)
			}
			if got, failure := d.order(t, `{"do":"config"}`); got["a"] != 1.0 || failure != "" {
				t.Errorf("config: %v, %q", got, failure)
			}
			if got, failure := d.order(t, `{"do":"echo","x":[1,"ä"]}`); len(got) != 2 || failure != "" {
				t.Errorf("echo: %v, %q", got, failure)
			}
			if _, failure := d.order(t, `{"do":"error","text":"no such thing"}`); failure != "no such thing" {
				t.Errorf("error: %q", failure)
			}
			// No host was offered: that is an error of the host function, and no crash.
			if got, _ := d.order(t, `{"do":"host","fn":"kv_get","args":{"key":"k"}}`); got["error"] == nil {
				t.Errorf("kv_get without a host: %v", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			late, err := d.Command(ctx, &pb.CommandRequest{Content: `{"do":"sleep","ms":3000}`})
			// The plugin knows the deadline too, and can be the first to say so.
			if status.Code(err) != codes.DeadlineExceeded && !strings.Contains(late.GetError(), "deadline exceeded") {
				t.Errorf("a late call: %v, %v", late, err)
			}
		})
	}
}

// A plugin that was copied from the SDK's template.
func TestTheTemplateUnderGoPlugin(t *testing.T) {
	d, protocol, err := hosted(t, "template-grpc-go", "greeter", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Ping(); err != nil {
		t.Errorf("health: %v", err)
	}
	s := &store{kv: map[string]string{}, config: map[string]string{"greeting": "Hello"}}
	id := d.broker.NextId()
	go d.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
		server := grpc.NewServer(options...)
		pb.RegisterHostServiceServer(server, s)
		return server
	})
	if _, err := d.Init(soon(t), &pb.InitRequest{Config: `{"greeting":""}`, HostBrokerId: id}); err == nil || !strings.Contains(err.Error(), "greeting is empty") {
		t.Errorf("init without a greeting: %v", err)
	}
	if _, err := d.Init(soon(t), &pb.InitRequest{Config: `{"greeting":"Hello"}`, HostBrokerId: id}); err != nil {
		t.Fatalf("init: %v", err)
	}
	for n, want := range []string{"Hello, Ada (1)", "Hello, Ada (2)"} {
		got, err := d.AbilityCall(soon(t), &pb.CallRequest{Operation: "greet", Params: `{"name":"Ada"}`})
		if err != nil || !strings.Contains(got.Result, want) {
			t.Errorf("call %d: %v, %v", n, got, err)
		}
	}
	got, err := d.Command(soon(t), &pb.CommandRequest{Context: `{"user_id":"Bob"}`})
	if err != nil || got.Payload != `{"_type":"TextMsg","text":"Hello, Bob (1)"}` {
		t.Errorf("command: %v, %v", got, err)
	}
}

// The host's services by the broker, with the certificates of AutoMTLS on that connection, too.
func TestBrokerUnderGoPlugin(t *testing.T) {
	for name, mtls := range map[string]bool{"plain": false, "with AutoMTLS": true} {
		t.Run(name, func(t *testing.T) {
			d, _, err := hosted(t, "fixture-grpc-go", "fixture", mtls)
			if err != nil {
				t.Fatal(err)
			}
			s := &store{kv: map[string]string{}}
			id := d.broker.NextId()
			go d.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
				server := grpc.NewServer(options...)
				pb.RegisterHostServiceServer(server, s)
				return server
			})
			if _, err := d.Init(soon(t), &pb.InitRequest{HostBrokerId: id}); err != nil {
				t.Fatalf("init: %v", err)
			}
			for _, step := range []struct{ args, want string }{
				{`"fn":"kv_get","args":{"key":"k"}`, `{"missing":true}`},
				{`"fn":"kv_set","args":{"key":"k","value":"v"}`, `{"done":true}`},
				{`"fn":"kv_get","args":{"key":"k"}`, `{"value":"v"}`},
				{`"fn":"kv_set","args":{"key":"full","value":"v"}`, `{"error":"kv_set: the store is full"}`},
			} {
				got, failure := d.order(t, `{"do":"host",`+step.args+`}`)
				if text, _ := json.Marshal(got); string(text) != step.want || failure != "" {
					t.Errorf("%s: %s, %q", step.args, text, failure)
				}
			}
		})
	}
}

// go-plugin's certificates have P-521 keys, which grpcio's TLS does not know. If this fails, it has learned, and the README may say so.
func TestPythonRefusesTheCertificateOfGoPlugin(t *testing.T) {
	d, _, err := hosted(t, "fixture-grpc-python", "fixture", true)
	if err == nil {
		_, err = d.Init(soon(t), &pb.InitRequest{})
	}
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "connection error") {
		t.Errorf("init: %v", err)
	}
}
