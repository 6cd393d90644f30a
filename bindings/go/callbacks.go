//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/cgo"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"
)

// registered counts the targets that the library holds.
var registered atomic.Int64

var levels = [...]string{"debug", "info", "warn", "error"}

//export flowplugGoDestroy
func flowplugGoDestroy(user C.uintptr_t) {
	cgo.Handle(user).Delete()
	registered.Add(-1)
}

//export flowplugGoDropped
func flowplugGoDropped(user C.uintptr_t, request C.uint64_t) { targetOf(user).drop(uint64(request)) }

//export flowplugGoLog
func flowplugGoLog(user C.uintptr_t, r *C.flowplug_log_record) {
	t := targetOf(user)
	ctx := context.WithValue(contextByTag(uint64(r.tag)), hostCallKey{}, &hostCall{identity: text(r.plugin), target: t})
	level := levels[min(max(int(r.level), 0), len(levels)-1)]
	t.record(ctx, level, text(r.message), pairs(r.fields, r.fields_len))
}

//export flowplugGoEvent
func flowplugGoEvent(user C.uintptr_t, ptr *C.char, n C.size_t) {
	t := targetOf(user)
	e := Event{Raw: copied(unsafe.Pointer(ptr), n)}
	if err := json.Unmarshal(e.Raw, &e); err != nil {
		e.Type, e.Cause = "unknown", err.Error()
	}
	t.event(e)
}

// flowplugGoRequest serves what a plugin asks, on the thread that the library calls from: for a wasm plugin the one that
// called it, so that the answer is there when this returns; for others one of the library's, which are bounded in number.
//
//export flowplugGoRequest
func flowplugGoRequest(user C.uintptr_t, r *C.fp_request) {
	t := targetOf(user)
	request := uint64(r.number)
	parent := contextByTag(uint64(r.caller.tag))
	call := &hostCall{identity: text(r.caller.plugin), function: text(r.caller.function), target: t, request: request}
	call.open.Store(true)
	ctx := context.WithValue(parent, hostCallKey{}, call)
	var cancel context.CancelFunc
	if left := uint64(r.caller.remaining_ns); left <= math.MaxInt64 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(left))
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	t.begin(request, cancel)
	defer t.end(request)
	answer := t.served(request, func() func() { return t.answer(ctx, r) })
	// From here on nothing may go on behalf of the request.
	call.open.Store(false)
	if parent.Err() != nil {
		fireByTag(uint64(r.caller.tag))
	}
	answer()
}

// served runs serve; a panic there is the end of the request, and not of the program.
func (t *target) served(request uint64, serve func() func()) (answer func()) {
	defer func() {
		if p := recover(); p != nil {
			t.report("a method of the HostAPI", p)
			answer = func() { fail(request, StatusHostError, fmt.Sprintf("The host's method panicked: %v", p)) }
		}
	}()
	return serve()
}

// answer calls the method that a request is for and returns how to answer it.
func (t *target) answer(ctx context.Context, r *C.fp_request) func() {
	request := uint64(r.number)
	switch r.kind {
	case C.FP_GET_CONFIG:
		value, err := t.api.GetConfig(ctx, text(r.first))
		if err == nil && !utf8.ValidString(value) {
			return func() { fail(request, StatusHostError, "The host answered with a value that is not UTF-8.") }
		}
		return valued(request, unsafe.Slice(unsafe.StringData(value), len(value)), true, err)
	case C.FP_KV_GET:
		value, err := t.api.KVGet(ctx, text(r.first))
		return valued(request, value, value != nil, err)
	case C.FP_KV_SET:
		value := copied(unsafe.Pointer(r.second.ptr), r.second.len)
		return done(request, t.api.KVSet(ctx, text(r.first), value))
	case C.FP_KV_DELETE:
		return done(request, t.api.KVDelete(ctx, text(r.first)))
	case C.FP_EMIT_EVENT:
		var e DataEvent
		if err := json.Unmarshal(unsafe.Slice((*byte)(unsafe.Pointer(r.first.ptr)), int(r.first.len)), &e); err != nil {
			return func() { fail(request, StatusInvalidArgument, "The event is not a DataEvent: "+err.Error()) }
		}
		return done(request, t.api.EmitEvent(ctx, e))
	case C.FP_HTTP_REQUEST:
		response, err := t.api.HTTPRequest(ctx, httpRequest(r.http))
		return responded(request, response, err)
	}
	return func() { fail(request, StatusUnsupported, "The host does not know this request.") }
}

func httpRequest(from *C.flowplug_http_request) *HostHTTPRequest {
	return &HostHTTPRequest{
		Method:  text(from.method),
		URL:     text(from.url),
		Headers: pairs(from.headers, from.headers_len),
		Body:    copied(unsafe.Pointer(from.body.ptr), from.body.len),
	}
}

// valued answers with a value, or that it is missing.
func valued(request uint64, value []byte, there bool, err error) func() {
	switch {
	case errors.Is(err, ErrNotFound), err == nil && !there:
		return func() { C.flowplug_request_missing(C.uint64_t(request)) }
	case err != nil:
		return failed(request, err)
	}
	return func() {
		ptr, n := chars(value)
		settled(request, C.fp_request_ok(C.uint64_t(request), ptr, n), "a value that is not UTF-8")
	}
}

// done answers that it was done, or why not.
func done(request uint64, err error) func() {
	if err != nil {
		return failed(request, err)
	}
	return func() { C.fp_request_ok(C.uint64_t(request), nil, 0) }
}

func responded(request uint64, response *HostHTTPResponse, err error) func() {
	switch {
	case err != nil:
		return failed(request, err)
	case response == nil:
		return func() {
			fail(request, StatusHostError, "The host's HTTPRequest returned neither a response nor an error.")
		}
	}
	var joined []byte
	lens := make([]C.size_t, 0, 2*len(response.Headers)+1)
	for name, value := range response.Headers {
		joined = append(append(joined, name...), value...)
		lens = append(lens, C.size_t(len(name)), C.size_t(len(value)))
	}
	return func() {
		head, _ := chars(joined)
		body, n := chars(response.Body)
		status := C.fp_request_http(C.uint64_t(request), C.int32_t(response.Status), head, unsafe.SliceData(lens), C.size_t(len(response.Headers)), body, n)
		settled(request, status, "a response whose status is not one of HTTP's, or whose headers are not UTF-8")
	}
}

// settled fails a request whose answer the library did not take: it would wait for another. That nobody waits any longer is no fault.
func settled(request uint64, status C.flowplug_status, what string) {
	if status == C.FLOWPLUG_INVALID_ARGUMENT {
		fail(request, StatusHostError, "The host answered with "+what+".")
	}
}

// failed answers with an error of the HostAPI.
func failed(request uint64, err error) func() {
	if errors.Is(err, ErrUseDefault) {
		return func() { C.flowplug_request_default(C.uint64_t(request)) }
	}
	message := err.Error()
	var e *Error
	if errors.As(err, &e) && err == error(e) {
		message = e.Message
	}
	return func() { fail(request, statusOf(err), message) }
}

func fail(request uint64, status Status, message string) {
	ptr, n := charsOf(strings.ToValidUTF8(message, "\uFFFD"))
	C.fp_request_fail(C.uint64_t(request), C.int32_t(status), ptr, n)
}

func targetOf(user C.uintptr_t) *target {
	forceGC()
	return cgo.Handle(user).Value().(*target)
}

// pairs copies names and values; the last of a name stands. Nil if there are none.
func pairs(from *C.flowplug_pair, n C.size_t) map[string]string {
	if n == 0 {
		return nil
	}
	to := make(map[string]string, int(n))
	for _, p := range unsafe.Slice(from, int(n)) {
		to[text(p.name)] = text(p.value)
	}
	return to
}
