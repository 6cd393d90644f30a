//go:build cgo && linux && goexperiment.cgocheck2

package flowplug

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"
)

// What the other tests pass under must be on: a Go pointer in C's memory ends the process.
func TestGoPointersInCMemoryAreFound(t *testing.T) {
	if os.Getenv("FLOWPLUG_TEST_VIOLATE") != "" {
		*(**int)(unsafe.Pointer(freeFrame().c.buf)) = new(int)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "FLOWPLUG_TEST_VIOLATE=1")
	if out, err := child.CombinedOutput(); err == nil || !strings.Contains(string(out), "Go pointer") {
		t.Errorf("%v: %s", err, out)
	}
}
