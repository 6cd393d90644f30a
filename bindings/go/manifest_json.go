package flowplug

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
)

// ManifestOption changes how a manifest is read.
type ManifestOption func(*manifestOptions)

type manifestOptions struct {
	baseDir string
	strict  bool
}

// WithBaseDir gives the folder against which a manifest's relative paths are resolved. The
// default is the folder of the file read; for bytes, the working directory.
func WithBaseDir(dir string) ManifestOption { return func(o *manifestOptions) { o.baseDir = dir } }

// Strict makes unknown fields errors instead of warnings.
func Strict() ManifestOption { return func(o *manifestOptions) { o.strict = true } }

// ParseManifest parses a plugin.yaml (or the same as JSON), checks it and fills in the
// defaults. The error names every problem with its place: see Details.
func ParseManifest(data []byte, opts ...ManifestOption) (*Manifest, error) {
	o := applied(opts)
	text, warnings, err := libManifest(data, "", o.baseDir, o.strict)
	if err != nil {
		return nil, err
	}
	return newManifest(text, warnings, o.baseDir)
}

// ReadManifest reads a manifest from a file, or from the plugin.yaml of a folder, as
// [ParseManifest] does.
func ReadManifest(path string, opts ...ManifestOption) (*Manifest, error) {
	o := applied(opts)
	if o.baseDir == "" && path != "" {
		dir := path
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			dir = filepath.Dir(path)
		}
		// Absolute, because the program may change its working directory before it loads the plugin.
		if abs, err := filepath.Abs(dir); err == nil {
			o.baseDir = abs
		}
	}
	text, warnings, err := libManifest(nil, path, o.baseDir, o.strict)
	if err != nil {
		return nil, err
	}
	return newManifest(text, warnings, o.baseDir)
}

func applied(opts []ManifestOption) manifestOptions {
	var o manifestOptions
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

func newManifest(text []byte, warnings []string, baseDir string) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, &Error{Status: StatusInternal, Message: "The library's form of the manifest was not understood: " + err.Error()}
	}
	m.baseDir, m.warnings = baseDir, warnings
	return m, nil
}

// BaseDir is the folder against which relative paths are resolved; empty: the working directory at the time of loading.
func (m *Manifest) BaseDir() string { return m.baseDir }

// SetBaseDir sets the folder against which relative paths are resolved, for a manifest built in Go.
func (m *Manifest) SetBaseDir(dir string) { m.baseDir = dir }

// Warnings lists what was accepted and is probably a mistake, unknown fields for instance. It is
// what was found when the manifest was read; for one built in Go it is empty.
func (m *Manifest) Warnings() []string { return slices.Clone(m.warnings) }

// ValidateConfig checks a plugin's config against ConfigSchema; nil is an absent config. With
// no schema any JSON passes. The error is [ErrInvalidConfig], its Details list every violation.
func (m *Manifest) ValidateConfig(config json.RawMessage) error {
	text, err := m.schemaAlone()
	if err != nil {
		return err
	}
	return libValidateConfig(text, config)
}

// FillConfig returns config with the defaults of ConfigSchema where it lacks them, checked; nil is an absent config, which
// starts as the schema's own default, or as {} where its type is object. Defaults come from properties, items, prefixItems,
// additionalProperties, allOf and local $refs, never from anyOf, oneOf, if or patterns. The error is [ErrInvalidConfig],
// as for ValidateConfig.
func (m *Manifest) FillConfig(config json.RawMessage) (json.RawMessage, error) {
	text, err := m.schemaAlone()
	if err != nil {
		return nil, err
	}
	return libFillConfig(text, config)
}

// schemaAlone is a manifest for checks of a config: the rest of m need not be complete for them.
func (m *Manifest) schemaAlone() ([]byte, error) {
	probe := &Manifest{Name: "schema", Runtime: RuntimeWasm, Wasm: &WasmConfig{Module: "none"}, ConfigSchema: m.ConfigSchema}
	return probe.text()
}

// text is the manifest as the library is given it.
func (m *Manifest) text() ([]byte, error) {
	text, err := m.MarshalJSON()
	if err != nil {
		return nil, &Error{Status: StatusInvalidManifest, Message: "The manifest cannot be written as JSON: " + err.Error()}
	}
	return text, nil
}

// plain has the fields of a Manifest and none of its methods.
type plain Manifest

// MarshalJSON writes the manifest with the field names of plugin.yaml, and with the fields that it was
// read with and that this package does not know.
func (m Manifest) MarshalJSON() ([]byte, error) {
	now, err := generic(m)
	if err != nil {
		return nil, err
	}
	if m.raw != nil {
		var raw any
		if err := decode(m.raw, &raw); err != nil {
			return nil, err
		}
		var then plain
		if err := json.Unmarshal(m.raw, &then); err != nil {
			return nil, err
		}
		before, err := generic(Manifest(then))
		if err != nil {
			return nil, err
		}
		now = keep(raw, before, now)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(now); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON reads the manifest as [json.Unmarshal] does, unchecked and without defaults, and keeps what it does not know.
func (m *Manifest) UnmarshalJSON(data []byte) error {
	read := plain{baseDir: m.baseDir, warnings: m.warnings}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	if isNull(read.ConfigSchema) {
		read.ConfigSchema = nil
	}
	read.raw = bytes.Clone(data)
	*m = Manifest(read)
	return nil
}

// generic is the JSON of the fields that this package knows, as maps and slices.
func generic(m Manifest) (any, error) {
	known := plain(m)
	if isNull(known.ConfigSchema) {
		known.ConfigSchema = nil
	}
	text, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	var v any
	return v, decode(text, &v)
}

func isNull(text json.RawMessage) bool {
	trimmed := bytes.TrimSpace(text)
	return len(trimmed) == 0 || string(trimmed) == "null"
}

// decode reads JSON with its numbers as they are written.
func decode(text []byte, into *any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// keep puts what raw holds beyond before, which is all of it that this package knows, into now. In a
// list an element that is as it was keeps its own.
func keep(raw, before, now any) any {
	switch now := now.(type) {
	case map[string]any:
		rawMap, ok := raw.(map[string]any)
		beforeMap, known := before.(map[string]any)
		if !ok || !known {
			return now
		}
		for name, value := range now {
			now[name] = keep(rawMap[name], beforeMap[name], value)
		}
		for name, value := range rawMap {
			_, was := beforeMap[name]
			if _, is := now[name]; !was && !is {
				now[name] = value
			}
		}
	case []any:
		rawList, ok := raw.([]any)
		beforeList, known := before.([]any)
		if !ok || !known || len(rawList) != len(beforeList) {
			return now
		}
		for i, value := range now {
			if at := slices.IndexFunc(beforeList, func(b any) bool { return reflect.DeepEqual(b, value) }); at >= 0 {
				now[i] = rawList[at]
			}
		}
	}
	return now
}
