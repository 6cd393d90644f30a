//go:build !wasip1

package sdk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/flowplug/flowplug/sdk/go/internal/pb"
)

const token = "the-token"

// programs are the two plugins, built by TestMain.
var programs = map[string]string{"bookmark": "../../examples/plugins/bookmark-go", "fixture": "../../tests/plugins/go/fixture"}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "sdk")
	if err != nil {
		panic(err)
	}
	for name, source := range programs {
		binary := filepath.Join(folder, name)
		build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
		build.Dir = source
		if out, err := build.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%s does not build: %v\n%s", name, err, out))
		}
		programs[name] = binary
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// host is a HostService that remembers what it was asked, and by whom.
type host struct {
	pb.UnimplementedHostServiceServer
	mu      sync.Mutex
	kv      map[string][]byte
	pages   map[string]string
	records []*pb.LogRequest
	events  []*pb.EmitEventRequest
	calls   map[string]int // the ids that host calls came with
	bounded bool           // every host call had a deadline
}

func newHost() *host {
	return &host{kv: map[string][]byte{}, pages: map[string]string{}, calls: map[string]int{}, bounded: true}
}

// meet notes what a host call came with.
func (h *host) meet(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range metadata.ValueFromIncomingContext(ctx, "flowplug-call") {
		h.calls[id]++
	}
	if _, ok := ctx.Deadline(); !ok {
		h.bounded = false
	}
	return handler(ctx, request)
}

// authorize lets nobody in without the token.
func authorize(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if got := metadata.ValueFromIncomingContext(ctx, "authorization"); len(got) != 1 || got[0] != "Bearer "+token {
		return nil, status.Error(codes.Unauthenticated, "no token")
	}
	return handler(ctx, request)
}

func (h *host) GetConfig(_ context.Context, r *pb.GetConfigRequest) (*pb.GetConfigResponse, error) {
	if r.Key == "secret" {
		return &pb.GetConfigResponse{Error: "not for you"}, nil
	}
	return &pb.GetConfigResponse{Value: map[string]string{"user_agent": "tester"}[r.Key]}, nil
}

func (h *host) Log(_ context.Context, r *pb.LogRequest) (*emptypb.Empty, error) {
	h.records = append(h.records, r)
	return &emptypb.Empty{}, nil
}

func (h *host) KVGet(_ context.Context, r *pb.KVGetRequest) (*pb.KVGetResponse, error) {
	value, ok := h.kv[r.Key]
	return &pb.KVGetResponse{Value: value, Missing: !ok}, nil
}

func (h *host) KVSet(_ context.Context, r *pb.KVSetRequest) (*emptypb.Empty, error) {
	if r.Key == "full" {
		return nil, status.Error(codes.ResourceExhausted, "the store is full")
	}
	h.kv[r.Key] = r.Value
	return &emptypb.Empty{}, nil
}

func (h *host) KVDelete(_ context.Context, r *pb.KVDeleteRequest) (*emptypb.Empty, error) {
	delete(h.kv, r.Key)
	return &emptypb.Empty{}, nil
}

func (h *host) HTTPRequest(_ context.Context, r *pb.HTTPCallRequest) (*pb.HTTPCallResponse, error) {
	page, ok := h.pages[r.Method+" "+r.Url]
	if !ok {
		return &pb.HTTPCallResponse{Status: 404}, nil
	}
	return &pb.HTTPCallResponse{Status: 200, Body: []byte(page), Headers: r.Headers}, nil
}

func (h *host) EmitEvent(_ context.Context, r *pb.EmitEventRequest) (*emptypb.Empty, error) {
	h.events = append(h.events, r)
	return &emptypb.Empty{}, nil
}

func (h *host) server(options ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(options...)
	pb.RegisterHostServiceServer(server, h)
	return server
}

// listen serves the host on a socket of its own and returns its address, as FLOWBOT_HOST_ADDRESS has it.
func (h *host) listen(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "host") // short: a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := h.server(grpc.ChainUnaryInterceptor(authorize, h.meet))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		_ = os.RemoveAll(folder)
	})
	return "unix:" + path
}

// guest is a plugin's process with go-plugin's own client around it.
type guest struct {
	pb.PluginServiceClient
	process *goplugin.Client
	broker  *goplugin.GRPCBroker
	health  func() error
}

// GRPCClient and GRPCServer make a guest what go-plugin's client dispenses.
func (g *guest) GRPCClient(_ context.Context, broker *goplugin.GRPCBroker, connection *grpc.ClientConn) (any, error) {
	g.PluginServiceClient, g.broker = pb.NewPluginServiceClient(connection), broker
	return g, nil
}

func (g *guest) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error { return nil }

// launch starts a program under go-plugin's client, with more environment.
func launch(t *testing.T, program string, environment map[string]string) *guest {
	t.Helper()
	command := exec.Command(programs[program])
	command.Env = []string{"PATH=/usr/bin:/bin"}
	for name, value := range environment {
		command.Env = append(command.Env, name+"="+value)
	}
	dispensed := &dispenser{guest: &guest{}}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "FLOWBOT_PLUGIN", MagicCookieValue: "flowbot-plugin-v1"},
		Plugins:          goplugin.PluginSet{"any": dispensed},
		Cmd:              command,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		Logger:           hclog.NewNullLogger(),
	})
	t.Cleanup(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.Dispense("any"); err != nil {
		t.Fatal(err)
	}
	dispensed.guest.process, dispensed.guest.health = client, protocol.Ping
	return dispensed.guest
}

type dispenser struct {
	goplugin.NetRPCUnsupportedPlugin
	*guest
}

// hosted starts a program with a host to ask, and inits it.
func hosted(t *testing.T, program, config string, more map[string]string) (*guest, *host) {
	t.Helper()
	h := newHost()
	environment := map[string]string{"FLOWBOT_HOST_ADDRESS": h.listen(t), "FLOWBOT_HOST_TOKEN": token}
	maps.Copy(environment, more)
	g := launch(t, program, environment)
	if _, err := g.Init(within(t), &pb.InitRequest{Config: config}); err != nil {
		t.Fatal(err)
	}
	return g, h
}

// within is a ctx with a deadline far longer than anything here takes.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// do sends the fixture an order and returns the answer, or the plugin's error.
func do(t *testing.T, g *guest, ctx context.Context, order string) (payload, failure string) {
	t.Helper()
	answer, err := g.Command(ctx, &pb.CommandRequest{Content: order})
	if err != nil {
		t.Fatalf("%s: %v", order, err)
	}
	if answer.Payload != "" && !json.Valid([]byte(answer.Payload)) {
		t.Fatalf("%s: the payload is not JSON: %s", order, answer.Payload)
	}
	return answer.Payload, answer.Error
}
