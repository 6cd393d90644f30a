// Command plain is a plugin by somebody who has never heard of this project's SDK: hashicorp/go-plugin, and code generated from the protocol.
//
// It answers a command with its content, an ability's operation with its params, and keeps the default for everything else, which is gRPC's
// Unimplemented. It logs the way go-plugin's plugins do.
package main

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/flowplug/flowplug/tests/plugins/go/plain/pb"
)

type service struct {
	pb.UnimplementedPluginServiceServer
	logger hclog.Logger
}

func (s *service) Init(_ context.Context, request *pb.InitRequest) (*pb.InitResponse, error) {
	s.logger.Info("plain is starting", "config", request.GetConfig())
	return &pb.InitResponse{}, nil
}

func (s *service) Command(_ context.Context, request *pb.CommandRequest) (*pb.CommandResponse, error) {
	if request.GetContent() == "" {
		return &pb.CommandResponse{Error: "say something"}, nil
	}
	return &pb.CommandResponse{Payload: request.GetContent()}, nil
}

func (s *service) IsReady(context.Context, *emptypb.Empty) (*pb.IsReadyResponse, error) {
	return &pb.IsReadyResponse{Ready: true}, nil
}

func (s *service) AbilityCall(_ context.Context, request *pb.CallRequest) (*pb.CallResponse, error) {
	return &pb.CallResponse{Result: request.GetParams()}, nil
}

type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	service *service
}

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	pb.RegisterPluginServiceServer(server, p.service)
	return nil
}

func (p *grpcPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("plain is no host")
}

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "plain", Level: hclog.Trace, JSONFormat: true})
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "FLOWBOT_PLUGIN", MagicCookieValue: "flowbot-plugin-v1"},
		Plugins:         plugin.PluginSet{"anything": &grpcPlugin{service: &service{logger: logger}}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger:          logger,
	})
}
