package plugins

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// A plugin built as a program instead of a library says so at once, and does not hang.
func TestProgramInsteadOfLibrary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program.wasm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	build.Dir, build.Env = "fixture", append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	_, err = engine.InstantiateWithConfig(context.Background(), code, wazero.NewModuleConfig().WithName("").WithStderr(&output))
	if err == nil || !strings.Contains(output.String(), "build with -buildmode=c-shared") {
		t.Errorf("it ended with %v and said %q", err, output.String())
	}
}
