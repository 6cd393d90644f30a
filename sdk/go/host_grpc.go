//go:build !wasip1

package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flowplug/flowplug/sdk/go/internal/pb"
)

const (
	// callKey is the metadata that says which call a host call belongs to.
	callKey = "flowplug-call"
	// hostTimeout bounds a host call whose ctx has no deadline of its own.
	hostTimeout = 30 * time.Second
	// logTimeout bounds a log record: logging must not be what a plugin waits for.
	logTimeout = 5 * time.Second
)

// grpcHost is the host of a process: HostService over one connection.
type grpcHost struct {
	client pb.HostServiceClient // nil: there is no host to ask
	token  string
}

// connected is the host of this process once it is known.
var connected atomic.Pointer[grpcHost]

func processHost() HostAPI {
	if host := connected.Load(); host != nil {
		return host
	}
	return &grpcHost{}
}

// connectFromEnvironment takes the direct way to the host, where the host offers one. The token is taken out of the environment, so that
// programs which the plugin starts do not inherit the right to speak in its name.
func connectFromEnvironment() {
	address, token := os.Getenv("FLOWBOT_HOST_ADDRESS"), os.Getenv("FLOWBOT_HOST_TOKEN")
	_ = os.Unsetenv("FLOWBOT_HOST_TOKEN")
	if address == "" {
		return
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), messageSizes())
	if err != nil {
		fmt.Fprintf(os.Stderr, "[ERROR] FLOWBOT_HOST_ADDRESS is not an address that gRPC can dial: %v\n", err)
		return
	}
	connected.Store(&grpcHost{client: pb.NewHostServiceClient(connection), token: token})
}

// connectThroughBroker takes the way that go-plugin has for it, unless the direct one is there already.
func connectThroughBroker(broker *goplugin.GRPCBroker, id uint32) {
	if connected.Load() != nil {
		return
	}
	connection, err := broker.DialWithOptions(id, messageSizes())
	if err != nil {
		fmt.Fprintf(os.Stderr, "[ERROR] the host offered its HostService as number %d of the broker, which does not answer: %v\n", id, err)
		return
	}
	connected.Store(&grpcHost{client: pb.NewHostServiceClient(connection)})
}

func messageSizes() grpc.DialOption {
	return grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))
}

// outgoing is the ctx of a host call: with the token, with the id of the call that ctx belongs to, and with a deadline.
func (h *grpcHost) outgoing(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if h.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+h.token)
	}
	for _, id := range metadata.ValueFromIncomingContext(ctx, callKey) {
		ctx = metadata.AppendToOutgoingContext(ctx, callKey, id)
	}
	if _, bounded := ctx.Deadline(); bounded {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// ask makes one host call.
func ask[Q, A any](h *grpcHost, ctx context.Context, function string,
	call func(context.Context, Q, ...grpc.CallOption) (A, error), request Q,
) (A, error) {
	ctx, cancel := h.outgoing(ctx, hostTimeout)
	defer cancel()
	answer, err := call(ctx, request)
	if err != nil {
		return answer, hostFailure(function, err)
	}
	return answer, nil
}

// hostFailure makes a HostError of a gRPC status, and keeps that a ctx has ended visible to errors.Is.
func hostFailure(function string, err error) error {
	failure := &HostError{Function: function, Message: status.Convert(err).Message(), cause: err}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		failure.cause = context.DeadlineExceeded
	case codes.Canceled:
		failure.cause = context.Canceled
	}
	return failure
}

// refused makes a HostError of a response's error field.
func refused(function, text string) error {
	if text == "" {
		return nil
	}
	return &HostError{Function: function, Message: text}
}

func noHost(function string) error {
	return &HostError{Function: function, Message: ErrNoHost.Error(), cause: ErrNoHost}
}

func (h *grpcHost) GetConfig(ctx context.Context, key string) (string, error) {
	if h.client == nil {
		return "", noHost("get_config")
	}
	answer, err := ask(h, ctx, "get_config", h.client.GetConfig, &pb.GetConfigRequest{Key: key})
	if err != nil {
		return "", err
	}
	return answer.GetValue(), refused("get_config", answer.GetError())
}

func (h *grpcHost) Log(ctx context.Context, level Level, message string, fields map[string]string) {
	request := &pb.LogRequest{Level: level.String(), Message: valid(message), Fields: make(map[string]string, len(fields))}
	for name, text := range fields {
		request.Fields[valid(name)] = valid(text)
	}
	if h.client != nil {
		// A record is worth delivering when the call it belongs to is over, too.
		ctx, cancel := h.outgoing(context.WithoutCancel(ctx), logTimeout)
		defer cancel()
		if _, err := h.client.Log(ctx, request); err == nil {
			return
		}
	}
	fmt.Fprintf(os.Stderr, "[%s] %s %v\n", strings.ToUpper(level.String()), message, fields)
}

func (h *grpcHost) KVGet(ctx context.Context, key string) ([]byte, bool, error) {
	if h.client == nil {
		return nil, false, noHost("kv_get")
	}
	answer, err := ask(h, ctx, "kv_get", h.client.KVGet, &pb.KVGetRequest{Key: key})
	if err == nil {
		err = refused("kv_get", answer.GetError())
	}
	if err != nil || answer.GetMissing() {
		return nil, false, err
	}
	return append([]byte{}, answer.GetValue()...), true, nil
}

func (h *grpcHost) KVSet(ctx context.Context, key string, value []byte) error {
	if h.client == nil {
		return noHost("kv_set")
	}
	_, err := ask(h, ctx, "kv_set", h.client.KVSet, &pb.KVSetRequest{Key: key, Value: value})
	return err
}

func (h *grpcHost) KVDelete(ctx context.Context, key string) error {
	if h.client == nil {
		return noHost("kv_delete")
	}
	_, err := ask(h, ctx, "kv_delete", h.client.KVDelete, &pb.KVDeleteRequest{Key: key})
	return err
}

func (h *grpcHost) HTTPRequest(ctx context.Context, request *HTTPRequest) (*HTTPResponse, error) {
	if h.client == nil {
		return nil, noHost("http_request")
	}
	answer, err := ask(h, ctx, "http_request", h.client.HTTPRequest, &pb.HTTPCallRequest{
		Method: methodOf(request), Url: request.URL, Headers: request.Headers, Body: request.Body,
	})
	if err == nil {
		err = refused("http_request", answer.GetError())
	}
	if err != nil {
		return nil, err
	}
	return &HTTPResponse{Status: int(answer.GetStatus()), Headers: answer.GetHeaders(), Body: answer.GetBody()}, nil
}

func (h *grpcHost) EmitEvent(ctx context.Context, event DataEvent) error {
	if h.client == nil {
		return noHost("emit_event")
	}
	data := maps.Clone(event.Data)
	if event.EntityID != "" {
		if data == nil {
			data = map[string]any{}
		}
		data["entity_id"] = event.EntityID
	}
	payload, err := json.Marshal(data)
	if err != nil {
		return &HostError{Function: "emit_event", Message: "the event's data is not JSON: " + err.Error(), cause: err}
	}
	_, err = ask(h, ctx, "emit_event", h.client.EmitEvent, &pb.EmitEventRequest{
		Source: event.Source, EventType: event.EventType, Payload: string(payload),
	})
	return err
}
