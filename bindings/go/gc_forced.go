//go:build cgo && linux && flowplug_gc

package flowplug

import "runtime"

const collects = true

// forceGC collects garbage wherever Go and C hand something to each other: what only one of them still holds shows at once.
func forceGC() { runtime.GC() }
