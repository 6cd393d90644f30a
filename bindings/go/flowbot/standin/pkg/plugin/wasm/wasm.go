// SPDX-License-Identifier: GPL-3.0-only

// Package wasm stands where flowbot has its own runner, which the guide replaces.
package wasm

import (
	"errors"

	"github.com/flowline-io/flowbot/pkg/plugin"
)

// NewWasmRunner fails: what uses it was not changed as the guide says.
func NewWasmRunner(*plugin.Manifest) (plugin.Runner, error) {
	return nil, errors.New("the stand-in has no runner of its own: the switch was not changed")
}
