// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"context"
	"errors"

	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// failure is an error of the library that flowbot understands too.
type failure struct {
	error
	kind error // one of flowbot's
}

func (f *failure) Unwrap() []error { return []error{f.error, f.kind} }

// translated adds what the error is to flowbot. What the caller's own cancel ended is nobody's fault and stays as it is.
func translated(err error) error {
	var e *flowplug.Error
	if err == nil || !errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{err, kindOf(e.Status)}
}

// kindOf is the sentinel of flowbot's by which its server chooses the HTTP status.
func kindOf(status flowplug.Status) error {
	switch status {
	case flowplug.StatusInvalidArgument, flowplug.StatusInvalidManifest, flowplug.StatusInvalidConfig:
		return types.ErrInvalidArgument
	case flowplug.StatusNotFound:
		return types.ErrNotFound
	case flowplug.StatusUnknownFunction, flowplug.StatusUnsupported:
		return types.ErrNotImplemented
	case flowplug.StatusPermissionDenied:
		return types.ErrForbidden
	case flowplug.StatusTimeout:
		return types.ErrTimeout
	case flowplug.StatusBusy, flowplug.StatusUnavailable, flowplug.StatusInvalidState, flowplug.StatusCancelled:
		return types.ErrUnavailable
	case flowplug.StatusPluginError, flowplug.StatusInvalidResponse, flowplug.StatusTrap, flowplug.StatusOutOfMemory:
		return types.ErrProvider
	}
	return types.ErrInternal
}

// toLibrary is an error of flowbot's HostAPI as the library hands it on to the plugin. One that says nothing in particular stays as it is.
func toLibrary(err error) error {
	if err == nil {
		return nil
	}
	for _, pair := range []struct {
		kind   error
		status flowplug.Status
	}{
		{types.ErrNotFound, flowplug.StatusNotFound},
		{types.ErrInvalidArgument, flowplug.StatusInvalidArgument},
		{types.ErrForbidden, flowplug.StatusPermissionDenied},
		{types.ErrUnauthorized, flowplug.StatusPermissionDenied},
		{types.ErrRateLimited, flowplug.StatusBusy},
		{types.ErrUnavailable, flowplug.StatusUnavailable},
		{types.ErrTimeout, flowplug.StatusTimeout},
		{types.ErrNotImplemented, flowplug.StatusUnsupported},
	} {
		if errors.Is(err, pair.kind) {
			return &flowplug.Error{Status: pair.status, Message: err.Error()}
		}
	}
	return err
}
