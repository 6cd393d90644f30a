//go:build cgo && linux && flowplug_static

package flowplug

// The archive comes first and satisfies everything, so that the shared library of the same pkg-config file is not needed.

// #cgo pkg-config: --static flowplug
// #cgo LDFLAGS: -Wl,--as-needed -l:libflowplug.a
import "C"
