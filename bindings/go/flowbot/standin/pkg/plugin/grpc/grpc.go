// SPDX-License-Identifier: GPL-3.0-only

// Package grpc stands where flowbot has its own runner, which the guide replaces.
package grpc

import (
	"errors"

	"github.com/flowline-io/flowbot/pkg/plugin"
)

// NewGrpcRunner fails: what uses it was not changed as the guide says.
func NewGrpcRunner(*plugin.Manifest) (plugin.Runner, error) {
	return nil, errors.New("the stand-in has no runner of its own: the switch was not changed")
}
