//go:build !(cgo && linux)

package flowplug

import (
	"errors"
	"testing"
)

func TestWithoutTheLibraryEverythingIsUnsupported(t *testing.T) {
	if _, err := NewHost(); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := ParseManifest([]byte("name: a")); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if err := new(Manifest).ValidateConfig(nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := new(Manifest).FillConfig(nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := new(Host).Admit("a", nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := NewManager(new(Host), nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := new(Host).NewRunner("a").Load(t.Context(), nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
