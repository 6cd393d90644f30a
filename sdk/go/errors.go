package sdk

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrUnsupported is in the error of a call that the plugin has no method for.
	ErrUnsupported = errors.New("unsupported")
	// ErrNoHost is in the error of a host call where there is no host to ask: the program was started by one that serves no HostService.
	ErrNoHost = errors.New("no host to ask: it serves no HostService (FLOWBOT_HOST_ADDRESS is not set)")
)

func unsupported(what string) error {
	return fmt.Errorf("%w: this plugin has no %s", ErrUnsupported, what)
}

// HostError is a host call that the host refused, or that failed in the host.
type HostError struct {
	// Function is the host function's name: kv_set, http_request...
	Function string
	// Message is the host's own text.
	Message string
	cause   error
}

// Error is the function's name and the host's text.
func (e *HostError) Error() string { return e.Function + ": " + e.Message }

// Unwrap returns what lies below: context.DeadlineExceeded or context.Canceled where the call's time was over, or a gRPC status error.
func (e *HostError) Unwrap() error { return e.cause }

// panicError is a panic of the plugin's own code, as the caller gets to see it.
type panicError struct {
	function string
	value    any
}

func (e *panicError) Error() string {
	return fmt.Sprintf("the plugin panicked in %s: %v", e.function, e.value)
}

// errorText is the text to send for an error. It is never empty, since an empty text means success to a gRPC host.
func errorText(err error) string {
	if text := err.Error(); text != "" {
		return text
	}
	return "the plugin failed and gave no reason"
}

// logPanic tells the host of a panic, with its stack. It never fails and never panics.
func logPanic(ctx context.Context, function string, value any, stack []byte) {
	defer func() { _ = recover() }()
	Host(ctx).Log(ctx, LevelError, fmt.Sprintf("panic in %s: %v", function, value), map[string]string{"stack": string(stack)})
}
