//go:build wasip1

package sdk

import (
	"context"
	"encoding/json"
	"unsafe"
)

// The host's functions, in the forms that tell most: values into a checked buffer, where a missing value is told from a failure; a response
// by value; log records with fields. Their parameters are on the heap, since the compiler lets what it passes to a function without a body
// escape, and stay alive until the function returns.

//go:wasmimport flowbot get_config
func importGetConfig(key string, out unsafe.Pointer, capacity uint32) int32

//go:wasmimport flowbot kv_get
func importKVGet(key string, out unsafe.Pointer, capacity uint32) int32

//go:wasmimport flowbot kv_set
func importKVSet(key, value string) int32

//go:wasmimport flowbot kv_delete
func importKVDelete(key string) int32

//go:wasmimport flowbot http_request
func importHTTPRequest(request string) uint64

//go:wasmimport flowbot emit_event
func importEmitEvent(event string) int32

//go:wasmimport flowbot log
func importLog(level int32, message, fields string)

//go:wasmimport flowbot last_error
func importLastError() uint64

// wasmHost is the host of a WebAssembly module. The ctx of its calls is not looked at but for having ended before: the host knows which
// call a host call belongs to, and ends both together.
type wasmHost struct{}

func processHost() HostAPI { return wasmHost{} }

// codeMissing is what the checked forms answer for a missing value. Anything else below 0 is a failure.
const codeMissing = -1

// scratch is what values are written into before they are copied out. It grows with them, so that most are read in one call.
var scratch = make([]byte, 4<<10)

// value reads one value, and says whether there is one.
func value(function, key string, read func(string, unsafe.Pointer, uint32) int32) ([]byte, bool, error) {
	for {
		size := read(key, unsafe.Pointer(unsafe.SliceData(scratch)), uint32(len(scratch)))
		switch {
		case size == codeMissing:
			return nil, false, nil
		case size < 0:
			return nil, false, failure(function)
		case int(size) <= len(scratch):
			return append([]byte{}, scratch[:size]...), true, nil
		}
		scratch = make([]byte, size)
	}
}

// failure is the host's text for the call that has just failed.
func failure(function string) error {
	text, err := unpacked(importLastError())
	switch {
	case err != nil:
		text = []byte(err.Error())
	case len(text) == 0:
		text = []byte("the host refused it and gave no reason")
	}
	return &HostError{Function: function, Message: string(text)}
}

// done is an answer that says only whether it worked.
func done(function string, code int32) error {
	if code == 1 {
		return nil
	}
	return failure(function)
}

func ended(function string, ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &HostError{Function: function, Message: err.Error(), cause: err}
	}
	return nil
}

func (wasmHost) GetConfig(ctx context.Context, key string) (string, error) {
	if err := ended("get_config", ctx); err != nil {
		return "", err
	}
	text, _, err := value("get_config", key, importGetConfig)
	return string(text), err
}

func (wasmHost) Log(_ context.Context, level Level, message string, fields map[string]string) {
	encoded := ""
	if len(fields) > 0 {
		// A map of strings always encodes.
		text, _ := json.Marshal(fields)
		encoded = string(text)
	}
	importLog(int32(min(max(level, LevelDebug), LevelError)), message, encoded)
}

func (wasmHost) KVGet(ctx context.Context, key string) ([]byte, bool, error) {
	if err := ended("kv_get", ctx); err != nil {
		return nil, false, err
	}
	return value("kv_get", key, importKVGet)
}

func (wasmHost) KVSet(ctx context.Context, key string, value []byte) error {
	if err := ended("kv_set", ctx); err != nil {
		return err
	}
	return done("kv_set", importKVSet(key, string(value)))
}

func (wasmHost) KVDelete(ctx context.Context, key string) error {
	if err := ended("kv_delete", ctx); err != nil {
		return err
	}
	return done("kv_delete", importKVDelete(key))
}

func (wasmHost) HTTPRequest(ctx context.Context, request *HTTPRequest) (*HTTPResponse, error) {
	const function = "http_request"
	if err := ended(function, ctx); err != nil {
		return nil, err
	}
	asked := *request
	asked.Method = methodOf(request)
	encoded, err := json.Marshal(asked)
	if err != nil {
		return nil, &HostError{Function: function, Message: err.Error(), cause: err}
	}
	answer, err := unpacked(importHTTPRequest(string(encoded)))
	if err != nil {
		return nil, &HostError{Function: function, Message: err.Error(), cause: err}
	}
	if answer == nil {
		return nil, failure(function)
	}
	response := new(HTTPResponse)
	if err := json.Unmarshal(answer, response); err != nil {
		return nil, &HostError{Function: function, Message: "the host's answer is not an HTTP response: " + err.Error(), cause: err}
	}
	return response, nil
}

func (wasmHost) EmitEvent(ctx context.Context, event DataEvent) error {
	const function = "emit_event"
	if err := ended(function, ctx); err != nil {
		return err
	}
	encoded, err := json.Marshal(event)
	if err != nil {
		return &HostError{Function: function, Message: "the event is not JSON: " + err.Error(), cause: err}
	}
	return done(function, importEmitEvent(string(encoded)))
}
