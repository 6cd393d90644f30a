//go:build cgo && linux

package flowplug

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const specExample = `
name: bookmarks
version: 1.10                # an unquoted scalar in a string field keeps its text
description: Bookmark backend
author: dev@example.com
runtime: wasm
provides:
  module: true
  abilities:
    - capability: bookmark
      operations: [list, get, create]
  provider: { name: my-service, oauth: true }
wasm:
  module: ./plugin.wasm
  pool: { max_instances: 4, wait_timeout: 5s }
  permissions:
    http: [{ host: api.example.com }, { host: "*.example.org" }, { host: "localhost:8080" }]
    filesystem: [{ path: ./data, mode: readwrite }]
    memory: { max: 64MB }
    execution: { timeout: 30s }
config_schema:
  type: object
  properties: { api_key: { type: string } }
  required: [api_key]
`

func parsed(t *testing.T, text string, opts ...ManifestOption) *Manifest {
	t.Helper()
	m, err := ParseManifest([]byte(text), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// again is m after a way to JSON and back through the library.
func again(t *testing.T, m *Manifest) *Manifest {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, string(text), WithBaseDir(m.BaseDir()))
}

func sameJSON(t *testing.T, a, b any) {
	t.Helper()
	left, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	right, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if string(left) != string(right) {
		t.Errorf("not the same:\n%s\n%s", left, right)
	}
}

func TestTheManifestOfTheDocumentation(t *testing.T) {
	m := parsed(t, specExample, WithBaseDir("/plugins/bookmarks"))
	if m.Name != "bookmarks" || m.Version != "1.10" || m.Runtime != RuntimeWasm || m.GRPC != nil || m.BaseDir() != "/plugins/bookmarks" {
		t.Errorf("%+v", m)
	}
	want := Provides{
		Module:    true,
		Abilities: []AbilityDecl{{Capability: "bookmark", Operations: []string{"list", "get", "create"}}},
		Provider:  &ProviderDecl{Name: "my-service", OAuth: true},
	}
	if !reflect.DeepEqual(m.Provides, want) {
		t.Errorf("%+v", m.Provides)
	}
	p := m.Wasm.Permissions
	if len(p.HTTP) != 3 || p.HTTP[1].Host != "*.example.org" || p.Filesystem[0] != (FSPermission{"./data", "readwrite"}) || p.Memory.Max != "64MB" ||
		p.Execution.Timeout != "30s" || p.Execution.Fuel != 0 {
		t.Errorf("%+v", p)
	}
	if *m.Wasm.Pool != (WasmPoolConfig{MaxInstances: 4, WaitTimeout: "5s", Snapshot: "off"}) {
		t.Errorf("%+v", m.Wasm.Pool)
	}
	sameJSON(t, m, again(t, m))
}

func TestAPoolMayBeginFromASnapshot(t *testing.T) {
	m := parsed(t, `{name: a, runtime: wasm, wasm: {module: a.wasm, pool: {snapshot: strict}}}`)
	if m.Wasm.Pool.Snapshot != "strict" {
		t.Errorf("%+v", m.Wasm.Pool)
	}
	sameJSON(t, m, again(t, m))
}

func TestGoldenManifestsMeanWhatStandsBesideThem(t *testing.T) {
	for _, name := range []string{"bookmarks", "defaults", "grpc"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("..", "..", "tests", "golden", "manifest", name)
			golden, err := os.ReadFile(path + ".json")
			if err != nil {
				t.Fatal(err)
			}
			m, err := ReadManifest(path + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := errors.Join(json.Unmarshal(text, &got), json.Unmarshal(golden, &want)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s\nis not\n%s", text, golden)
			}
		})
	}
}

func TestTheManifestsOfTheGoTemplateAreTaken(t *testing.T) {
	for _, name := range []string{"plugin.wasm.yaml", "plugin.grpc.yaml"} {
		m, err := ReadManifest(filepath.Join("..", "..", "sdk", "go", "template", name), Strict())
		if err != nil || len(m.Warnings()) > 0 || m.ValidateConfig(json.RawMessage(`{"greeting":"Hello"}`)) != nil {
			t.Errorf("%s: %v, %v", name, err, m.Warnings())
		}
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	m := parsed(t, "name: a\nversion: \"1.10\"\nruntime: wasm\nwasm: { module: a.wasm }\n")
	if m.Version != "1.10" || m.Wasm.Pool.MaxInstances != 4 || m.Wasm.Pool.WaitTimeout != "5s" || m.Wasm.Permissions.Memory.Max != "64MB" {
		text, _ := json.Marshal(m)
		t.Errorf("%s", text)
	}
	if m.ConfigSchema != nil || m.Provides.Provider != nil {
		t.Errorf("absent is nil: %s %v", m.ConfigSchema, m.Provides.Provider)
	}
	sameJSON(t, m, again(t, m))
}

func TestALiteralParsesBack(t *testing.T) {
	for name, m := range map[string]*Manifest{
		"nil pointers": {Name: "a", Runtime: RuntimeWasm, Wasm: &WasmConfig{Module: "a.wasm"}},
		"empty schema": {Name: "a", Runtime: RuntimeWasm, Wasm: &WasmConfig{Module: "a.wasm"}, ConfigSchema: json.RawMessage{}},
		"extensions": {
			Name: "a", Version: "1.10", Runtime: RuntimeGRPC, ConfigSchema: json.RawMessage(`{"const":"\ud83d\ude00 \u2028 <b>"}`),
			GRPC: &GRPCConfig{
				Binary: "./a", Env: map[string]string{"A": "1: {"}, CallTimeout: "2s", TLS: "off",
				Restart:     &RestartConfig{Policy: "never", MaxRestarts: 3},
				Permissions: &GRPCPermissions{HTTP: []HTTPPermission{{Host: "example.com"}}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m.SetBaseDir("/somewhere")
			back := again(t, m)
			if back.Name != m.Name || back.Version != m.Version || back.Runtime != m.Runtime || back.BaseDir() != "/somewhere" {
				t.Errorf("%+v", back)
			}
			if m.GRPC == nil {
				return
			}
			g := back.GRPC
			if g.Env["A"] != "1: {" || g.CallTimeout != "2s" || g.Restart.MaxRestarts != 3 || g.Permissions.HTTP[0].Host != "example.com" {
				t.Errorf("%+v", g)
			}
			if err := back.ValidateConfig(json.RawMessage("\"\U0001F600 \u2028 <b>\"")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatGoDoesNotKnowSurvives(t *testing.T) {
	const text = `{"name":"a","later":{"x":1e400},"wasm":{"module":"a.wasm","cores":2,"pool":{"max_instances":1,"wait_timeout":"","spare":true},
		"permissions":{"http":[{"host":"a","tls":true},{"host":"b"}]}},"config_schema":null}`
	var m Manifest
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	if m.ConfigSchema != nil {
		t.Errorf("config_schema: %s", m.ConfigSchema)
	}
	m.Version = "2"
	m.Wasm.Pool = nil
	m.Wasm.Permissions.HTTP = append([]HTTPPermission{{Host: "c"}}, m.Wasm.Permissions.HTTP[0])
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"later":{"x":1e400}`, `"cores":2`, `"version":"2"`, `"pool":null`, `[{"host":"c"},{"host":"a","tls":true}]`, `"config_schema":null`} {
		if !strings.Contains(string(out), part) {
			t.Errorf("%s is not in %s", part, out)
		}
	}
}

func TestAManifestThatCannotBeUsed(t *testing.T) {
	_, err := ParseManifest([]byte("runtime: magic\n"))
	var e *Error
	if !errors.Is(err, ErrInvalidManifest) || !errors.As(err, &e) {
		t.Fatal(err)
	}
	var details struct {
		Problems []struct{ Field string }
	}
	if err := json.Unmarshal(e.Details, &details); err != nil || len(details.Problems) < 2 {
		t.Errorf("%v %s", err, e.Details)
	}
	if _, err := (&Manifest{ConfigSchema: json.RawMessage("{")}).text(); !errors.Is(err, ErrInvalidManifest) {
		t.Error(err)
	}
	if _, err := ReadManifest(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a manifest that is not there was read")
	}
}

func TestUnknownFieldsAreWarningsOrErrors(t *testing.T) {
	const text = "name: a\nruntime: wasm\nwasm: { module: a.wasm, modul: b }\n"
	if m := parsed(t, text); len(m.Warnings()) != 1 || !strings.Contains(m.Warnings()[0], "modul") {
		t.Errorf("%q", m.Warnings())
	}
	if _, err := ParseManifest([]byte(text), Strict()); !errors.Is(err, ErrInvalidManifest) {
		t.Error(err)
	}
}

func TestAManifestKnowsItsFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "plugin.yaml")
	if err := os.WriteFile(file, []byte(specExample), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file} {
		m, err := ReadManifest(path)
		if err != nil {
			t.Fatal(err)
		}
		if m.BaseDir() != dir {
			t.Errorf("%s: %s", path, m.BaseDir())
		}
	}
	t.Chdir(dir)
	if m, err := ReadManifest("plugin.yaml"); err != nil || m.BaseDir() != dir {
		t.Errorf("%v %v", m, err)
	}
}

func TestAConfigIsFilled(t *testing.T) {
	m := &Manifest{ConfigSchema: json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer","default":3}}}`)}
	for given, want := range map[string]string{"": `{"n":3}`, `{"n":1}`: `{"n":1}`, `{"o":2}`: `{"o":2,"n":3}`} {
		var config json.RawMessage
		if given != "" {
			config = json.RawMessage(given)
		}
		filled, err := m.FillConfig(config)
		if err != nil || string(filled) != want {
			t.Errorf("%q: %s, %v, not %s", given, filled, err, want)
		}
	}
	if _, err := m.FillConfig(json.RawMessage(`{"n":"x"}`)); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
}

func TestTheSchemasAreJSON(t *testing.T) {
	for _, schema := range []json.RawMessage{ManifestSchema(), PolicySchema()} {
		var read struct {
			Schema string `json:"$schema"`
		}
		if err := json.Unmarshal(schema, &read); err != nil || read.Schema == "" {
			t.Error(err, read)
		}
	}
}

func TestAManifestIsCheckedAgainstThePolicy(t *testing.T) {
	h, err := NewHost(WithPolicy("strict"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest([]byte("name: a\nruntime: wasm\nwasm: { module: ./m.wasm, permissions: { http: [{ host: api.example.com }] } }\n"))
	if err != nil {
		t.Fatal(err)
	}
	denied, err := h.Admit("org/a", m)
	if err != nil || denied.Allowed || denied.Identity != "org/a" || denied.Runtime != RuntimeWasm {
		t.Fatalf("%+v, %v", denied, err)
	}
	http := slices.IndexFunc(denied.Requests, func(r PolicyRequest) bool { return r.What == "http" })
	if http < 0 || denied.Requests[http].Asked != "api.example.com" || denied.Requests[http].Allowed || denied.Requests[http].Grant == "" {
		t.Errorf("%+v", denied.Requests)
	}
	if granted, err := h.Admit("org/a", m, WithRunnerPolicy("trusted")); err != nil || !granted.Allowed {
		t.Errorf("%+v, %v", granted, err)
	}
	if _, err := h.Admit("../a", m); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := h.Admit("org/a", nil); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.Admit("org/a", m); !errors.Is(err, ErrInvalidState) {
		t.Error(err)
	}
}

func TestConfigIsCheckedAgainstTheSchema(t *testing.T) {
	m := parsed(t, specExample)
	if err := m.ValidateConfig(json.RawMessage(`{"api_key":"k"}`)); err != nil {
		t.Error(err)
	}
	var e *Error
	err := m.ValidateConfig(json.RawMessage(`{"api_key":1}`))
	if !errors.Is(err, ErrInvalidConfig) || !errors.As(err, &e) || !strings.Contains(string(e.Details), "/api_key") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{`{`, ``, `{}`} {
		if err := m.ValidateConfig(json.RawMessage(bad)); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := (&Manifest{}).ValidateConfig(json.RawMessage(`[1]`)); err != nil {
		t.Errorf("without a schema: %v", err)
	}
}

func TestWhatIsNotThereIsNamedByItsWholePath(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadManifest("nowhere"); !errors.Is(err, ErrIO) || !strings.Contains(err.Error(), here+"/nowhere") {
		t.Error(err)
	}
	h := newTestHost(t, WithPolicy("trusted"))
	for _, m := range []*Manifest{
		{Runtime: RuntimeWasm, Wasm: &WasmConfig{Module: "./nowhere"}},
		{Runtime: RuntimeGRPC, GRPC: &GRPCConfig{Binary: "./nowhere"}},
		{Runtime: RuntimeGRPC, GRPC: &GRPCConfig{Binary: "nowhere"}},
	} {
		m.Name = "lost"
		_, err := h.NewRunner("lost").Load(t.Context(), m)
		if !errors.Is(err, ErrLoadFailed) || !strings.Contains(err.Error(), here+"/nowhere") || !strings.Contains(err.Error(), "build the plugin, or correct") {
			t.Error(err)
		}
	}
}
