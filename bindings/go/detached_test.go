//go:build cgo && linux

package flowplug

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestACallEndsWhileItsMethodBlocks(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		inside, release, returned := make(chan context.Context, 1), make(chan struct{}), make(chan struct{})
		api := &recorder{onGet: func(ctx context.Context, _ string) ([]byte, error) {
			defer close(returned)
			inside <- ctx
			<-release
			return []byte("late"), nil
		}}
		h := newTestHost(t, WithHostAPI(api), WithDetachedCallbacks())
		r := started(t, h, "p", manifestOf(t, fixture), "")
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error, 1)
		go func() {
			_, err := r.Call(ctx, "command", asks("kv_get", `{"key":"k"}`))
			failed <- err
		}()
		asked := <-inside
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		// The method hears of it, and blocks still.
		<-asked.Done()
		select {
		case <-returned:
			t.Error("the method has returned")
		default:
		}
		if got := called(t, r, do(`{"do":"echo","n":1}`)); got != `{"do":"echo","n":1}` {
			t.Error(got)
		}
		close(release)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		<-returned
	})
}

func TestADeadlineEndsACallWhoseMethodBlocks(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		api := &recorder{onGet: func(ctx context.Context, _ string) ([]byte, error) {
			<-ctx.Done() // ends with the request, though nobody here cancels it
			return nil, ctx.Err()
		}}
		r := started(t, newTestHost(t, WithHostAPI(api), WithDetachedCallbacks()), "p", manifestOf(t, fixture), "")
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err := r.Call(ctx, "command", asks("kv_get", `{"key":"k"}`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestDetachedMethodsServeCallsRecordsAndNestedCalls(t *testing.T) {
	inBothRuntimes(t, func(t *testing.T, fixture string) {
		var r *Runner
		api := &recorder{}
		api.onGet = func(ctx context.Context, _ string) ([]byte, error) {
			return r.Call(ctx, "command", do(`{"do":"echo","n":7}`))
		}
		r = started(t, newTestHost(t, WithHostAPI(api), WithDetachedCallbacks()), "org/fix", manifestOf(t, fixture), "")
		if got := called(t, r, asks("kv_get", `{"key":"k"}`)); !strings.Contains(got, `\"n\":7`) {
			t.Error(got)
		}
		called(t, r, asks("log", `{"level":2,"message":"careful","fields":{}}`))
		eventually(t, "the record", func() bool { return api.logged("org/fix warn careful") })
	})
}

// A request can be dropped before its method has come so far as to hear of it.
func TestARequestThatIsDroppedEarlyEnds(t *testing.T) {
	target := newTarget(nil, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	target.drop(7)
	target.begin(8, cancel)
	if ctx.Err() != nil {
		t.Error("another's drop has ended it")
	}
	target.begin(7, cancel)
	if ctx.Err() == nil {
		t.Error("it goes on")
	}
}
