//go:build cgo && linux && !flowplug_gc

package flowplug

const collects = false

// forceGC does nothing in this build.
func forceGC() {}
