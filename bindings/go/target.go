package flowplug

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
)

// maxHostCalls is how many requests the library has under way for a host at once, on threads of its own.
const maxHostCalls = 256

// target is what the library's callbacks reach in Go. It knows no Host and no Runner, so that those can be
// collected while the library still holds it.
type target struct {
	api    HostAPI      // nil: embedded defaults, only records and events come
	logger *slog.Logger // nil: none
	events func(Event)

	mu   sync.Mutex
	live map[uint64]context.CancelFunc // by request
	// early are requests that were dropped while they were not live: where callbacks are detached, before they came so far.
	early [maxHostCalls]uint64
	next  int
}

func newTarget(api HostAPI, logger *slog.Logger, events func(Event)) *target {
	return &target{api: api, logger: logger, events: events, live: map[uint64]context.CancelFunc{}}
}

// drop ends the context of a request that nobody waits for any longer.
func (t *target) drop(request uint64) {
	t.mu.Lock()
	cancel := t.live[request]
	if cancel == nil {
		t.early[t.next] = request
		t.next = (t.next + 1) % len(t.early)
	}
	t.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (t *target) begin(request uint64, cancel context.CancelFunc) {
	t.mu.Lock()
	t.live[request] = cancel
	early := slices.Contains(t.early[:], request)
	t.mu.Unlock()
	if early {
		cancel()
	}
}

func (t *target) end(request uint64) {
	t.mu.Lock()
	delete(t.live, request)
	t.mu.Unlock()
}

// record hands a log record to whom it belongs. A panic there is contained: there is nobody to tell but standard error.
func (t *target) record(ctx context.Context, level, msg string, fields map[string]string) {
	defer func() {
		if p := recover(); p != nil {
			stderrLogger.Error("flowplug: the Log method or the logger panicked", "panic", fmt.Sprint(p))
		}
	}()
	identity, _ := PluginFromContext(ctx)
	switch {
	case t.api != nil && (identity != "" || t.logger == nil):
		t.api.Log(ctx, level, msg, fields)
	default:
		logTo(loggerFrom(ctx), ctx, level, msg, fields)
	}
}

// event hands an event to the program.
func (t *target) event(e Event) {
	defer t.contain("the function given to WithEvents")
	t.events(e)
}

// contain recovers a panic of the program's own code and reports it.
func (t *target) contain(what string) {
	if p := recover(); p != nil {
		t.report(what, p)
	}
}

// report tells the program that its own code panicked.
func (t *target) report(what string, p any) {
	logger := t.logger
	if logger == nil {
		logger = stderrLogger
	}
	logger.Error("flowplug: a callback panicked", "callback", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}
