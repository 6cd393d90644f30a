// SPDX-License-Identifier: GPL-3.0-only

//go:build cgo && linux

package flowbot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flowline-io/flowbot/pkg/plugin"
	"github.com/flowline-io/flowbot/pkg/types"
	flowplug "github.com/flowplug/flowplug/bindings/go"
	"github.com/flowplug/flowplug/bindings/go/flowbot"
)

// written is a copy of the wasm fixture's folder, with more below `wasm:` in its plugin.yaml.
func written(t *testing.T, more string) string {
	t.Helper()
	from, to := built(t, fixtures["wasm"]), t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	writeManifest(t, to, manifestText(t, from)+more)
	return to
}

func writeManifest(t *testing.T, folder, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, "plugin.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// begun loads m in baseDir and starts it.
func begun(t *testing.T, baseDir string, m *plugin.Manifest, api plugin.HostAPI) (plugin.Runner, error) {
	t.Helper()
	r, err := flowbot.NewRunner(newHost(t), "fixture", baseDir, m, api)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), m); err != nil {
		return nil, err
	}
	return r, r.Start(t.Context(), nil)
}

func TestWhatTheCallerTakesAwayTheFileDoesNotGiveBack(t *testing.T) {
	folder := written(t, "")
	const ask = `{"do":"host","fn":"http_request","args":{"method":"GET","url":"http://127.0.0.1:1/"}}`
	for name, c := range map[string]struct {
		change func(*plugin.Manifest)
		asked  int
		kind   error
	}{
		"nothing":             {func(*plugin.Manifest) {}, 1, nil},
		"the permitted hosts": {func(m *plugin.Manifest) { m.Wasm.Permissions.HTTP = nil }, 0, nil},
		"every host of them":  {func(m *plugin.Manifest) { m.Wasm.Permissions.HTTP = []plugin.HTTPPermission{} }, 0, nil},
		"all permissions":     {func(m *plugin.Manifest) { m.Wasm.Permissions = nil }, 0, nil},
		"the module":          {func(m *plugin.Manifest) { m.Provides.Module = false }, 0, types.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			m, api := manifestOf(t, folder), newServices()
			c.change(m)
			r, err := begun(t, folder, m, api)
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := tell(r, ask); !errors.Is(err, c.kind) || len(api.asked) != c.asked {
				t.Errorf("%s, %v: flowbot was asked %d times and not %d", answer, err, len(api.asked), c.asked)
			}
		})
	}
}

func TestTheSchemaIsTheCallersToo(t *testing.T) {
	folder := written(t, "config_schema: { type: object, required: [key] }\n")
	if _, err := begun(t, folder, manifestOf(t, folder), nil); err != nil {
		t.Error("the file's schema was asked, and the caller gave none:", err)
	}
}

func TestWhatFlowbotHasNoFieldForStaysAlsoBelowWhatTheCallerTookAway(t *testing.T) {
	m := manifestOf(t, written(t, ""))
	m.Wasm.Permissions = nil
	if _, err := begun(t, written(t, "  sha256: "+strings.Repeat("0", 64)+"\n"), m, nil); !is(err, flowplug.ErrLoadFailed) {
		t.Error("wasm.sha256:", err)
	}
	if _, err := begun(t, written(t, "    execution: { fuel: 1 }\n"), m, nil); err == nil || !strings.Contains(err.Error(), "fuel") {
		t.Error("wasm.permissions.execution.fuel:", err)
	}
}

func TestAFileThatCannotBeReadIsItsOwnPluginsMatter(t *testing.T) {
	folder := written(t, "")
	m := manifestOf(t, folder)
	m.Wasm.Module = "plugin.wasm"
	t.Chdir(folder)
	for name, c := range map[string]struct {
		baseDir, text string
		refused       bool
	}{
		"another's, no YAML":                  {"", "name: [\nwasm: { module: ./plugin.wasm }\ndescription: not plugin.wasm\n", false},
		"another's, refused by the library":   {"", "name: x\nruntime: wasm\nwasm:\n  module: my-plugin.wasm\n  pool: { wait_timeout: soon }\n", false},
		"its own":                             {"", "name: x\nruntime: wasm\nwasm:\n  module: plugin.wasm # here\n  pool: { wait_timeout: soon }\n", true},
		"its own, as JSON":                    {"", `{"name": "x", "runtime": "wasm", "wasm": {"module": "plugin.wasm", "pool": {"wait_timeout": "soon"}}}`, true},
		"in the folder that the caller names": {folder, "name: [\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			writeManifest(t, folder, c.text)
			api := newServices()
			_, err := begun(t, c.baseDir, m, api)
			if c.refused != is(err, flowplug.ErrInvalidManifest, types.ErrInvalidArgument) || c.refused == api.logged("warn the plugin.yaml beside the artifact is passed over") {
				t.Error(err, api.records)
			}
			if !c.refused && err != nil {
				t.Error(err)
			}
		})
	}
}
