// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// manifestOf is the manifest as the library reads it. flowbot's type has no room for what the library takes beyond it, a gRPC plugin's
// permissions for instance: that comes from the plugin.yaml that m was read from.
func manifestOf(m *plugin.Manifest, baseDir string) (*flowplug.Manifest, error) {
	if m == nil {
		return nil, &flowplug.Error{Status: flowplug.StatusInvalidArgument, Message: "There is no manifest."}
	}
	known, err := generic(m)
	if err != nil {
		return nil, unreadable(err)
	}
	written, err := writtenFor(m, baseDir)
	if err != nil {
		return nil, err
	}
	if written != nil {
		all, err := generic(written)
		if err != nil {
			return nil, unreadable(err)
		}
		known = over(all, known).(map[string]any)
	}
	text, err := json.Marshal(known)
	if err != nil {
		return nil, unreadable(err)
	}
	manifest := new(flowplug.Manifest)
	if err := json.Unmarshal(text, manifest); err != nil {
		return nil, unreadable(err)
	}
	manifest.SetBaseDir(baseDir)
	return manifest, nil
}

// writtenFor is the plugin.yaml of baseDir, or else of the artifact's folder, if it names the same artifact as m does; nil if neither is there.
func writtenFor(m *plugin.Manifest, baseDir string) (*flowplug.Manifest, error) {
	var artifact string
	switch {
	case m.Runtime == plugin.RuntimeWasm && m.Wasm != nil:
		artifact = m.Wasm.Module
	case m.Runtime == plugin.RuntimeGRPC && m.GRPC != nil:
		artifact = m.GRPC.Binary
	}
	beside := filepath.Dir(artifact)
	if !filepath.IsAbs(beside) {
		beside = filepath.Join(baseDir, beside)
	}
	for _, folder := range []string{baseDir, beside} {
		path := filepath.Join(folder, "plugin.yaml")
		if _, err := os.Stat(path); folder == "" || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		written, err := flowplug.ReadManifest(path)
		if err != nil {
			return nil, err
		}
		if (written.Wasm != nil && written.Wasm.Module == artifact) || (written.GRPC != nil && written.GRPC.Binary == artifact) {
			return written, nil
		}
	}
	return nil, nil
}

// over is below with what above says in its place: objects are joined, and what is empty says nothing.
func over(below, above any) any {
	to, isObject := below.(map[string]any)
	from, areObjects := above.(map[string]any)
	if !isObject || !areObjects {
		if empty(above) {
			return below
		}
		return above
	}
	for name, value := range from {
		to[name] = over(to[name], value)
	}
	return to
}

func empty(value any) bool {
	switch value := value.(type) {
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return value == nil || value == "" || value == json.Number("0") || value == false
}

// generic is a manifest as its JSON, with its numbers as they are written.
func generic(manifest any) (object map[string]any, err error) {
	text, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return object, d.Decode(&object)
}

func unreadable(err error) error {
	return &flowplug.Error{Status: flowplug.StatusInvalidManifest, Message: "The manifest cannot be written as JSON: " + err.Error()}
}
