//go:build cgo && linux

package flowplug

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const asleep = `{"do":"sleep","ms":60000}`

// crowd has n goroutines call a plugin that does not answer, and returns when all of them wait; ended hands on how each call ends.
func crowd(ctx context.Context, t *testing.T, r *Runner, n int) (ended <-chan error) {
	t.Helper()
	before, all := inFlight(), make(chan error, n)
	for range n {
		go func() {
			_, err := r.Call(ctx, "command", do(asleep))
			all <- err
		}()
	}
	eventually(t, "all to call", func() bool { return inFlight()-before+len(all) == n })
	return all
}

// drained is how each of a crowd's calls ends.
func drained(ended <-chan error) iter.Seq[error] {
	return func(yield func(error) bool) {
		for range cap(ended) {
			if !yield(<-ended) {
				return
			}
		}
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// Of goroutines that wait for a process a few hold a thread and the rest none; their contexts end them all the same.
func TestGoroutinesThatWaitForAProcessHoldFewThreads(t *testing.T) {
	r := started(t, newTestHost(t, WithLogger(quiet)), "crowd", manifestOf(t, grpcFixture), "")
	called(t, r, do(`{"do":"echo"}`))
	before := threads(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := crowd(ctx, t, r, 2000)
	if now := threads(t); now > before+100 {
		t.Errorf("%d threads, %d before", now, before)
	}
	cancel()
	for err := range drained(ended) {
		if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
	}
	if got := called(t, r, do(`{"do":"echo"}`)); !strings.Contains(got, "echo") {
		t.Error(got)
	}
}

func TestDeadlinesEndTheFewAndTheMany(t *testing.T) {
	m := manifestOf(t, grpcFixture)
	m.GRPC.CallTimeout = "200ms"
	r := started(t, newTestHost(t, WithLogger(quiet)), "late", m, "")
	for _, n := range []int{1, 100} {
		callers, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		for err := range drained(crowd(callers, t, r, n)) {
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
				t.Error(err)
			}
		}
		cancel()
		for err := range drained(crowd(context.WithoutCancel(callers), t, r, n)) {
			if !errors.Is(err, ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
	}
}

// Close ends what waits for a process, whether it holds a thread or not.
func TestCloseEndsTheFewAndTheMany(t *testing.T) {
	for _, n := range []int{1, 100} {
		r := started(t, newTestHost(t, WithLogger(quiet)), "closed", manifestOf(t, grpcFixture), "")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := crowd(ctx, t, r, n)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		for err := range drained(ended) {
			if !errors.Is(err, ErrCancelled) && !errors.Is(err, ErrInvalidState) {
				t.Error(err)
			}
		}
	}
}

// Methods that call a process again, while more calls are under way than hold threads.
func TestMethodsOfManyCallsMayCallProcesses(t *testing.T) {
	api := &recorder{}
	h := newTestHost(t, WithHostAPI(api), WithLogger(quiet))
	a, b := started(t, h, "a", manifestOf(t, grpcFixture), ""), started(t, h, "b", manifestOf(t, grpcFixture), "")
	api.onGet = func(ctx context.Context, key string) ([]byte, error) {
		if strings.HasPrefix(key, "plugin:b:") {
			return []byte("the end"), nil
		}
		return b.Call(ctx, "command", asks("kv_get", `{"key":"k"}`))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all sync.WaitGroup
	for range 64 {
		all.Add(1)
		go func() {
			defer all.Done()
			got, err := a.Call(ctx, "command", asks("kv_get", `{"key":"k"}`))
			if err != nil || !strings.Contains(string(got), "the end") {
				t.Errorf("%s %v", got, err)
			}
		}()
	}
	all.Wait()
}

// A Runner of a manager's plugin follows it into the other runtime: goroutines that wait for a process hold few threads, and a module runs
// on the thread that calls it.
func TestARunnerFollowsItsPluginIntoTheOtherRuntime(t *testing.T) {
	api := &recorder{}
	m := newTestManager(t, newTestHost(t, WithHostAPI(api), WithLogger(quiet)), nil)
	identity, err := m.Load(t.Context(), folder(t, wasmFixture), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := m.Get(identity)
	if !ok {
		t.Fatal("it is not there")
	}
	defer r.Close()
	becomes := func(fixture string) {
		if err := m.ReloadPlugin(t.Context(), identity, manifestOf(t, fixture), json.RawMessage(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	onItsThread := func() bool {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var there int
		api.set(func() {
			api.onGet = func(context.Context, string) ([]byte, error) { there = syscall.Gettid(); return []byte("v"), nil }
		})
		called(t, r, asks("kv_get", `{"key":"k"}`))
		return there == syscall.Gettid()
	}
	if !onItsThread() {
		t.Error("a module's method was called on another thread")
	}
	becomes(grpcFixture)
	if onItsThread() {
		t.Error("a process's method was called on the thread that waits for it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	before := threads(t)
	ended := crowd(ctx, t, r, 500)
	if now := threads(t); now > before+100 {
		t.Errorf("%d threads, %d before", now, before)
	}
	cancel()
	for err := range drained(ended) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	becomes(wasmFixture)
	if !onItsThread() {
		t.Error("a module's method was called on another thread, after it had been a process")
	}
}
