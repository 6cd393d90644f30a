// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"github.com/flowline-io/flowbot/pkg/plugin"
	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// manifestOf is the manifest as the library reads it. flowbot's type has no room for what the library takes beyond it, a gRPC plugin's
// permissions for instance: that comes from the plugin.yaml that m was read from, and nothing else does.
func (r *runner) manifestOf(ctx context.Context, m *plugin.Manifest) (*flowplug.Manifest, error) {
	if m == nil {
		return nil, &flowplug.Error{Status: flowplug.StatusInvalidArgument, Message: "There is no manifest."}
	}
	all, err := generic(m)
	if err != nil {
		return nil, unreadable(err)
	}
	written, err := r.writtenFor(ctx, m)
	if err != nil {
		return nil, err
	}
	if written != nil {
		beyond, err := generic(written)
		if err != nil {
			return nil, unreadable(err)
		}
		strip(beyond, reflect.TypeFor[plugin.Manifest]())
		for _, section := range []string{"grpc", "wasm"} {
			if all[section] == nil {
				delete(beyond, section) // of a runtime that m has not
			}
		}
		add(all, beyond)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, unreadable(err)
	}
	manifest := new(flowplug.Manifest)
	if err := json.Unmarshal(text, manifest); err != nil {
		return nil, unreadable(err)
	}
	manifest.SetBaseDir(r.baseDir)
	return manifest, nil
}

// writtenFor is the plugin.yaml of baseDir, or else of the artifact's folder, if it names the same artifact as m does; nil if neither is there.
// One that the library refuses is an error in baseDir, which is the plugin's by the caller's word. In the artifact's folder, which
// may be the working directory, it is one only if it names the artifact: else it is somebody else's, and passed over.
func (r *runner) writtenFor(ctx context.Context, m *plugin.Manifest) (*flowplug.Manifest, error) {
	artifact := artifactOf(m)
	beside := filepath.Dir(artifact)
	if !filepath.IsAbs(beside) {
		beside = filepath.Join(r.baseDir, beside)
	}
	for _, folder := range []string{r.baseDir, beside} {
		path := filepath.Join(folder, "plugin.yaml")
		if _, err := os.Stat(path); folder == "" || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		written, err := flowplug.ReadManifest(path)
		if err != nil {
			if folder == r.baseDir || names(path, artifact) {
				return nil, err
			}
			r.note(ctx, slog.LevelWarn, "the plugin.yaml beside the artifact is passed over: it cannot be read, and does not name the artifact", err)
			continue
		}
		if (written.Wasm != nil && written.Wasm.Module == artifact) || (written.GRPC != nil && written.GRPC.Binary == artifact) {
			return written, nil
		}
	}
	return nil, nil
}

func artifactOf(m *plugin.Manifest) string {
	switch {
	case m.Runtime == plugin.RuntimeWasm && m.Wasm != nil:
		return m.Wasm.Module
	case m.Runtime == plugin.RuntimeGRPC && m.GRPC != nil:
		return m.GRPC.Binary
	}
	return ""
}

// names says whether the manifest at path, which need not be one that can be parsed, has this artifact.
func names(path, artifact string) bool {
	text, err := os.ReadFile(path)
	return err == nil && regexp.MustCompile(`(?m)\b(?:module|binary)["']?\s*:\s*["']?`+regexp.QuoteMeta(artifact)+`["']?\s*(?:[,}#]|$)`).Match(text)
}

// strip takes out of an object what the type has fields for, at every depth.
func strip(object map[string]any, known reflect.Type) {
	for i := range known.NumField() {
		field := known.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		within := field.Type
		if within.Kind() == reflect.Pointer {
			within = within.Elem()
		}
		if below, isObject := object[name].(map[string]any); isObject && within.Kind() == reflect.Struct {
			strip(below, within)
			if len(below) > 0 {
				continue
			}
		}
		delete(object, name)
	}
}

// add lays what is beyond flowbot's type into what the type has said.
func add(to, beyond map[string]any) {
	for name, value := range beyond {
		into, isObject := to[name].(map[string]any)
		more, areObjects := value.(map[string]any)
		if isObject && areObjects {
			add(into, more)
		} else if to[name] == nil {
			to[name] = value
		}
	}
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
