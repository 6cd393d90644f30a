package flowplug

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestErrorsMatchTheirSentinelAlone(t *testing.T) {
	all := []error{
		ErrInvalidArgument, ErrInvalidManifest, ErrInvalidConfig, ErrInvalidState, ErrNotFound, ErrUnknownFunction, ErrLoadFailed, ErrStartFailed,
		ErrPlugin, ErrInvalidResponse, ErrTrap, ErrOutOfMemory, ErrTimeout, ErrCancelled, ErrBusy, ErrPermissionDenied, ErrUnavailable, ErrHost,
		ErrIO, ErrInternal, ErrUnsupported,
	}
	if len(all) != int(StatusUnsupported) {
		t.Fatalf("%d sentinels for %d statuses", len(all), StatusUnsupported)
	}
	for i, sentinel := range all {
		err := fmt.Errorf("wrapped: %w", &Error{Status: Status(i + 1)})
		for j, other := range all {
			if errors.Is(err, other) != (i == j) {
				t.Errorf("%v, %v", err, sentinel)
			}
		}
	}
}

func TestAnErrorSaysWhoAndWhat(t *testing.T) {
	err := &Error{Status: StatusPluginError, Plugin: "org/a", Function: "get", Message: "The plugin said no."}
	if got := err.Error(); got != "flowplug: org/a: get: plugin error: The plugin said no." {
		t.Error(got)
	}
	if got := Status(99).String(); got != "status 99" {
		t.Error(got)
	}
}

func TestTheCallersContextIsTheCause(t *testing.T) {
	err := contextEnded(context.Canceled)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	late := (&Error{Status: StatusCancelled}).endedBy(context.DeadlineExceeded)
	if !errors.Is(late, context.DeadlineExceeded) || !errors.Is(late, ErrTimeout) {
		t.Error(late)
	}
}

func TestWhatAHostAPIsErrorIsToThePlugin(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Status
	}{
		{errors.New("broken"), StatusHostError},
		{fmt.Errorf("asked: %w", ErrBusy), StatusBusy},
		{&Error{Status: StatusPermissionDenied}, StatusPermissionDenied},
		{context.DeadlineExceeded, StatusTimeout},
		{context.Canceled, StatusCancelled},
	} {
		if got := statusOf(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestAnEventIsReadLeniently(t *testing.T) {
	var e DataEvent
	text := `{"event_type":"t","created_at":"","data":{"a":1},"tags":null,"later":2}`
	if err := json.Unmarshal([]byte(text), &e); err != nil || e.EventType != "t" || string(e.Data) != `{"a":1}` || !e.CreatedAt.IsZero() {
		t.Errorf("%v %+v", err, e)
	}
	if err := json.Unmarshal([]byte(`{"created_at":"2026-01-02T03:04:05Z"}`), &e); err != nil || e.CreatedAt.Year() != 2026 {
		t.Errorf("%v %+v", err, e)
	}
	if err := json.Unmarshal([]byte(`{"created_at":"yesterday"}`), &e); err == nil {
		t.Error("a time that is none was taken")
	}
	back, err := json.Marshal(DataEvent{EventType: "t", CreatedAt: time.Unix(0, 0).UTC()})
	if err != nil || json.Unmarshal(back, &e) != nil || e.EventType != "t" {
		t.Errorf("%v %s", err, back)
	}
}
