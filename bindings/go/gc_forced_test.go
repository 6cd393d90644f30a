//go:build cgo && linux && flowplug_gc

package flowplug

import (
	"runtime"
	"testing"
)

func TestEveryCallCollectsGarbage(t *testing.T) {
	r := started(t, newTestHost(t, WithHostAPI(&recorder{})), "gc", manifestOf(t, wasmFixture), "")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		called(t, r, asks("kv_get", `{"key":"k"}`))
	}
	runtime.ReadMemStats(&after)
	// Before it, in the method that it leads to, and after it.
	if n := after.NumForcedGC - before.NumForcedGC; n < 30 {
		t.Errorf("10 calls, %d collections", n)
	}
}
