//go:build cgo && linux && !flowplug_static

package flowplug

// #cgo pkg-config: flowplug
import "C"
