// SPDX-License-Identifier: GPL-3.0-only

//go:build !cgo || !linux

package flowbot

import (
	"errors"
	"testing"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

func TestWithoutTheLibraryThereIsNoHost(t *testing.T) {
	host, err := flowplug.NewHost()
	if host != nil || !errors.Is(err, flowplug.ErrUnsupported) {
		t.Error(err)
	}
	wasm := &plugin.Manifest{Name: "x", Runtime: plugin.RuntimeWasm, Wasm: &plugin.WasmConfig{Module: "x.wasm"}}
	if r, err := NewRunner(host, "x", "", wasm, nil); r != nil || !errors.Is(err, flowplug.ErrInvalidArgument) {
		t.Error(err)
	} // One that was not made by NewHost can do nothing, and harms nobody.
	r, err := NewRunner(new(flowplug.Host), "x", "", wasm, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), wasm); !errors.Is(err, flowplug.ErrUnsupported) {
		t.Error(err)
	}
	if err := r.Stop(t.Context()); !errors.Is(err, flowplug.ErrUnsupported) {
		t.Error(err)
	}
}
