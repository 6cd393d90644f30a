package flowplug

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
)

// Status is the kind of an error. The numbers are those of the C ABI and never change.
type Status int32

// The statuses. StatusOK is never that of an error.
const (
	StatusOK Status = iota
	StatusInvalidArgument
	StatusInvalidManifest
	StatusInvalidConfig
	StatusInvalidState
	StatusNotFound
	StatusUnknownFunction
	StatusLoadFailed
	StatusStartFailed
	StatusPluginError
	StatusInvalidResponse
	StatusTrap
	StatusOutOfMemory
	StatusTimeout
	StatusCancelled
	StatusBusy
	StatusPermissionDenied
	StatusUnavailable
	StatusHostError
	StatusIO
	StatusInternal
	StatusUnsupported
)

var statusNames = [...]string{
	"ok", "invalid argument", "invalid manifest", "invalid config", "invalid state", "not found", "unknown function",
	"load failed", "start failed", "plugin error", "invalid response", "trap", "out of memory", "timeout", "cancelled",
	"busy", "permission denied", "unavailable", "host error", "io", "internal", "unsupported",
}

// String returns the status in words, "plugin error" for instance.
func (s Status) String() string {
	if s < 0 || int(s) >= len(statusNames) {
		return "status " + strconv.Itoa(int(s))
	}
	return statusNames[s]
}

// sentinel is what errors.Is compares an Error with.
type sentinel Status

func (s sentinel) Error() string { return "flowplug: " + Status(s).String() }

// One sentinel per status, for errors.Is.
var (
	ErrInvalidArgument  error = sentinel(StatusInvalidArgument)
	ErrInvalidManifest  error = sentinel(StatusInvalidManifest)  // Details name every problem
	ErrInvalidConfig    error = sentinel(StatusInvalidConfig)    // Details name every violation
	ErrInvalidState     error = sentinel(StatusInvalidState)     // called before Start, after Close…
	ErrNotFound         error = sentinel(StatusNotFound)         // not provided by the manifest; in a HostAPI: missing
	ErrUnknownFunction  error = sentinel(StatusUnknownFunction)  // no such function at all
	ErrLoadFailed       error = sentinel(StatusLoadFailed)       // the artifact cannot be run
	ErrStartFailed      error = sentinel(StatusStartFailed)      // the plugin's init failed
	ErrPlugin           error = sentinel(StatusPluginError)      // the plugin answered with an error: PluginMessage
	ErrInvalidResponse  error = sentinel(StatusInvalidResponse)  // the plugin's answer is not what it must be
	ErrTrap             error = sentinel(StatusTrap)             // a wasm plugin crashed
	ErrOutOfMemory      error = sentinel(StatusOutOfMemory)      // a wasm plugin reached its memory limit
	ErrTimeout          error = sentinel(StatusTimeout)          // the smallest of the deadlines passed
	ErrCancelled        error = sentinel(StatusCancelled)        // by the caller, or by Stop or Close
	ErrBusy             error = sentinel(StatusBusy)             // no instance in time, or nested too deep
	ErrPermissionDenied error = sentinel(StatusPermissionDenied) // past the policy or the manifest
	ErrUnavailable      error = sentinel(StatusUnavailable)      // the plugin's process is gone, or is being started again
	ErrHost             error = sentinel(StatusHostError)        // a method of the HostAPI failed
	ErrIO               error = sentinel(StatusIO)
	ErrInternal         error = sentinel(StatusInternal)    // a fault of the library
	ErrUnsupported      error = sentinel(StatusUnsupported) // not in this build, or not on this system
)

// ErrUseDefault, returned by a method of a [HostAPI], has the library's embedded default
// answer the plugin's request. It is what the methods of [UnimplementedHostAPI] return.
var ErrUseDefault = errors.New("flowplug: the embedded default answers this request")

// Error is what every failing function of this package returns.
type Error struct {
	// Status is the kind; match it by errors.Is and the sentinels.
	Status Status
	// Message says what happened and what to do.
	Message string
	// Plugin is the identity of the plugin, if one is concerned.
	Plugin string
	// Function is the function that was called, if one was.
	Function string
	// PluginMessage is the plugin's own text, bounded and cleaned; it is not to be trusted.
	PluginMessage string
	// Details is a JSON object: violations, problems, backtrace, exit status, what was denied. Nil if there are none.
	Details json.RawMessage

	// cause is the error of the caller's context, where that ended the call.
	cause error
}

// Error returns the whole in one line.
func (e *Error) Error() string {
	text := "flowplug: "
	if e.Plugin != "" {
		text += e.Plugin + ": "
	}
	if e.Function != "" {
		text += e.Function + ": "
	}
	text += e.Status.String()
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Is reports whether target is the sentinel of the error's status.
func (e *Error) Is(target error) bool {
	s, ok := target.(sentinel)
	return ok && Status(s) == e.Status
}

// Unwrap returns the error of the caller's context if that ended the call, else nil.
func (e *Error) Unwrap() error { return e.cause }

// endedBy marks the error as the doing of the caller's context. A call that a deadline ended
// may come back as cancelled, because the context's end reaches the library by both ways.
func (e *Error) endedBy(cause error) *Error {
	e.cause = cause
	if errors.Is(cause, context.DeadlineExceeded) {
		e.Status = StatusTimeout
	} else {
		e.Status = StatusCancelled
	}
	return e
}

// contextEnded is the error of a call whose context had ended before it was made.
func contextEnded(cause error) *Error {
	return (&Error{Message: "The context had ended before the call was made."}).endedBy(cause)
}

// statusOf is what a HostAPI's error is to the plugin that asked.
func statusOf(err error) Status {
	var e *Error
	var s sentinel
	switch {
	case errors.As(err, &e) && e.Status != StatusOK:
		return e.Status
	case errors.As(err, &s):
		return Status(s)
	case errors.Is(err, context.DeadlineExceeded):
		return StatusTimeout
	case errors.Is(err, context.Canceled):
		return StatusCancelled
	}
	return StatusHostError
}
