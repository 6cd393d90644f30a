//go:build !wasip1

package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/flowplug/flowplug/sdk/go/internal/pb"
)

// maxMessage bounds one gRPC message, in bytes; the host has its own bound.
const maxMessage = 64 << 20

var handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "FLOWBOT_PLUGIN",
	MagicCookieValue: "flowbot-plugin-v1",
}

// Serve runs the plugin. Call it once, as the last thing in main.
//
// As a process it serves until the host asks it to end, then returns. As a WebAssembly module it never returns.
func Serve(module Module) {
	connectFromEnvironment()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         goplugin.PluginSet{"plugin": &grpcPlugin{plugin: &plugin{module}}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))...)
		},
	})
}

// grpcPlugin registers the service with go-plugin's server.
type grpcPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	plugin *plugin
}

func (p *grpcPlugin) GRPCServer(broker *goplugin.GRPCBroker, server *grpc.Server) error {
	pb.RegisterPluginServiceServer(server, &pluginServer{plugin: p.plugin, broker: broker})
	return nil
}

func (p *grpcPlugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this is the plugin's side: a host makes its own client of PluginService")
}

// pluginServer is PluginService over a plugin.
type pluginServer struct {
	pb.UnimplementedPluginServiceServer
	plugin *plugin
	broker *goplugin.GRPCBroker
}

func (s *pluginServer) Init(ctx context.Context, request *pb.InitRequest) (*pb.InitResponse, error) {
	if id := request.GetHostBrokerId(); id != 0 {
		connectThroughBroker(s.broker, id)
	}
	if err := s.plugin.init(ctx, fromText(request.GetConfig())); err != nil {
		return nil, failed(err)
	}
	return &pb.InitResponse{}, nil
}

func (s *pluginServer) Bootstrap(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	if _, err := s.plugin.bootstrap(ctx); err != nil {
		return nil, failed(err)
	}
	return &emptypb.Empty{}, nil
}

func (s *pluginServer) Command(ctx context.Context, request *pb.CommandRequest) (*pb.CommandResponse, error) {
	payload, text := answer(s.plugin.command(ctx, fromText(request.GetContext()), fromText(request.GetContent())))
	return &pb.CommandResponse{Payload: payload, Error: text}, nil
}

func (s *pluginServer) Form(ctx context.Context, request *pb.FormRequest) (*pb.FormResponse, error) {
	payload, text := answer(s.plugin.form(ctx, fromText(request.GetContext()), request.GetValues()))
	return &pb.FormResponse{Payload: payload, Error: text}, nil
}

func (s *pluginServer) Rules(ctx context.Context, _ *emptypb.Empty) (*pb.RulesResponse, error) {
	rules, text := answer(s.plugin.rules(ctx))
	return &pb.RulesResponse{Rules: rules, Error: text}, nil
}

func (s *pluginServer) Help(ctx context.Context, _ *emptypb.Empty) (*pb.HelpResponse, error) {
	help, text := answer(s.plugin.help(ctx))
	return &pb.HelpResponse{Help: help, Error: text}, nil
}

func (s *pluginServer) IsReady(ctx context.Context, _ *emptypb.Empty) (*pb.IsReadyResponse, error) {
	return &pb.IsReadyResponse{Ready: s.plugin.isReady(ctx)}, nil
}

func (s *pluginServer) AbilityCall(ctx context.Context, request *pb.CallRequest) (*pb.CallResponse, error) {
	params := fromText(request.GetParams())
	if request.GetOperation() == oauthAuthorize {
		var asked struct{ State string }
		if err := json.Unmarshal(params, &asked); err != nil {
			return &pb.CallResponse{Error: "the params of oauth_authorize must be an object with state: " + err.Error()}, nil
		}
		return callResponse(s.plugin.oauthAuthorize(ctx, asked.State)), nil
	}
	return callResponse(s.plugin.invoke(ctx, request.GetOperation(), params)), nil
}

func (s *pluginServer) WebhookConvert(ctx context.Context, request *pb.WebhookConvertRequest) (*pb.CallResponse, error) {
	return callResponse(s.plugin.convertWebhook(ctx, request.GetPayload())), nil
}

func (s *pluginServer) OAuthCallback(ctx context.Context, request *pb.OAuthCallbackRequest) (*pb.CallResponse, error) {
	return callResponse(s.plugin.oauthCallback(ctx, request.GetState(), request.GetCode())), nil
}

func callResponse(result json.RawMessage, err error) *pb.CallResponse {
	value, text := answer(result, err)
	return &pb.CallResponse{Result: value, Error: text}
}

// valid mends text that is not UTF-8, which would make a whole message fail.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// answer is a result as the protocol's two fields.
func answer(result json.RawMessage, err error) (value, text string) {
	if err != nil {
		return "", valid(errorText(err))
	}
	return valid(string(result)), ""
}

// failed is an error of the plugin for a call whose response has no error field.
func failed(err error) error {
	return status.Error(codes.Unknown, valid(errorText(err)))
}

// fromText reads a field called JSON. Hosts send a plain string there as it is, so text that is not JSON is that string.
func fromText(text string) json.RawMessage {
	if text == "" {
		return null
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return null
	}
	return quoted
}
