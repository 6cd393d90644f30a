package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/grpc/connectivity"

	"github.com/flowplug/flowplug/tests/plugins/go/plain/pb"
)

// ask does what a content with `ask` wants of the host, and answers JSON:
//
//	{"ask": "get_config", "key": k}           the value
//	{"ask": "kv_get", "key": k}               the value, or null
//	{"ask": "kv_set", "key": k, "value": v}   null; with `bytes` in place of `value`, a value of so many
//	{"ask": "kv_delete", "key": k}            null
//	{"ask": "emit_event", "value": payload}   null
//	{"ask": "idle"}                           null, once the connection to the host is idle
//
// asked is false for a content that asks for nothing.
func (s *service) ask(ctx context.Context, content string) (answer string, err error, asked bool) {
	var order struct {
		Ask, Key, Value string
		Bytes           int
	}
	if json.Unmarshal([]byte(content), &order) != nil || order.Ask == "" {
		return "", nil, false
	}
	if s.host == nil {
		return "", errors.New("the host offers nothing by the broker"), true
	}
	host := pb.NewHostServiceClient(s.host)
	var value *string
	switch order.Ask {
	case "get_config":
		var got *pb.GetConfigResponse
		if got, err = host.GetConfig(ctx, &pb.GetConfigRequest{Key: order.Key}); err == nil {
			value, err = &got.Value, said(got.Error)
		}
	case "kv_get":
		var got *pb.KVGetResponse
		if got, err = host.KVGet(ctx, &pb.KVGetRequest{Key: order.Key}); err == nil {
			if text := string(got.Value); !got.Missing {
				value = &text
			}
			err = said(got.Error)
		}
	case "kv_set":
		text := order.Value + strings.Repeat("x", order.Bytes)
		_, err = host.KVSet(ctx, &pb.KVSetRequest{Key: order.Key, Value: []byte(text)})
	case "kv_delete":
		_, err = host.KVDelete(ctx, &pb.KVDeleteRequest{Key: order.Key})
	case "emit_event":
		_, err = host.EmitEvent(ctx, &pb.EmitEventRequest{EventType: "plain.asked", Payload: order.Value})
	case "idle":
		for state := s.host.GetState(); state != connectivity.Idle; state = s.host.GetState() {
			if !s.host.WaitForStateChange(ctx, state) {
				err = ctx.Err()
				break
			}
		}
	default:
		err = errors.New("there is no such host function")
	}
	text, _ := json.Marshal(value)
	return string(text), err, true
}

func said(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}
