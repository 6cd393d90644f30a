// Command plain is a plugin by somebody who has never heard of this project's SDK: hashicorp/go-plugin, and code generated from the protocol.
//
// It answers a command with its content, an ability's operation with its params, and keeps the default for everything else, which is gRPC's
// Unimplemented. It logs the way go-plugin's plugins do. A host that offers its services by the broker is dialled in Init, and asked by
// commands: see ask.go. What it does wrong when it is told to is in misbehave.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/flowplug/flowplug/tests/plugins/go/plain/pb"
)

type service struct {
	pb.UnimplementedPluginServiceServer
	logger hclog.Logger
	broker *plugin.GRPCBroker
	host   *grpc.ClientConn
}

// Init dials the host where it is offered. A config with `idle_ms` makes that connection go idle after so long without a call.
func (s *service) Init(_ context.Context, request *pb.InitRequest) (*pb.InitResponse, error) {
	s.logger.Info("plain is starting", "config", request.GetConfig())
	if id := request.GetHostBrokerId(); id != 0 {
		var config struct {
			Idle int `json:"idle_ms"`
		}
		_ = json.Unmarshal([]byte(request.GetConfig()), &config)
		var err error
		if config.Idle == 0 {
			s.host, err = s.broker.Dial(id)
		} else {
			s.host, err = s.broker.DialWithOptions(id, grpc.WithIdleTimeout(time.Duration(config.Idle)*time.Millisecond))
		}
		if err != nil {
			return nil, err
		}
	}
	return &pb.InitResponse{}, nil
}

func (s *service) Command(ctx context.Context, request *pb.CommandRequest) (*pb.CommandResponse, error) {
	if request.GetContent() == "" {
		return &pb.CommandResponse{Error: "say something"}, nil
	}
	if answer, err, asked := s.ask(ctx, request.GetContent()); asked {
		if err != nil {
			return &pb.CommandResponse{Error: err.Error()}, nil
		}
		return &pb.CommandResponse{Payload: answer}, nil
	}
	if answer, obeyed := misbehave(request.GetContent()); obeyed {
		return answer, nil
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

func (p *grpcPlugin) GRPCServer(broker *plugin.GRPCBroker, server *grpc.Server) error {
	p.service.broker = broker
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
	farewell()
}
