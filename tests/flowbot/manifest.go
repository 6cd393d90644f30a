package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// The types of flowbot's documented API, with its tags.
type (
	manifest struct {
		Name         string          `yaml:"name"`
		Version      string          `yaml:"version"`
		Description  string          `yaml:"description"`
		Author       string          `yaml:"author"`
		Runtime      runtimeKind     `yaml:"runtime"`
		Provides     provides        `yaml:"provides"`
		GRPC         *grpcConfig     `yaml:"grpc"`
		Wasm         *wasmConfig     `yaml:"wasm"`
		ConfigSchema json.RawMessage `yaml:"config_schema"`
	}
	runtimeKind string
	provides    struct {
		Module    bool          `yaml:"module" json:"module"`
		Abilities []abilityDecl `yaml:"abilities" json:"abilities"`
		Provider  *providerDecl `yaml:"provider" json:"provider"`
	}
	abilityDecl struct {
		Capability string   `yaml:"capability" json:"capability"`
		Operations []string `yaml:"operations" json:"operations"`
	}
	providerDecl struct {
		Name  string `yaml:"name" json:"name"`
		OAuth bool   `yaml:"oauth" json:"oauth"`
	}
	grpcConfig struct {
		Binary string   `yaml:"binary" json:"binary"`
		Args   []string `yaml:"args" json:"args"`
	}
	wasmConfig struct {
		Module      string           `yaml:"module"`
		Permissions *wasmPermissions `yaml:"permissions"`
		Pool        *wasmPoolConfig  `yaml:"pool"`
	}
	wasmPermissions struct {
		HTTP       []httpPermission `yaml:"http"`
		Filesystem []fsPermission   `yaml:"filesystem"`
		Memory     *memoryLimit     `yaml:"memory"`
		Execution  *executionLimit  `yaml:"execution"`
	}
	httpPermission struct {
		Host string `yaml:"host"`
	}
	fsPermission struct {
		Path string `yaml:"path" json:"path"`
		Mode string `yaml:"mode" json:"mode"`
	}
	memoryLimit struct {
		Max string `yaml:"max"`
	}
	executionLimit struct {
		Timeout string `yaml:"timeout"`
	}
	wasmPoolConfig struct {
		MaxInstances int    `yaml:"max_instances"`
		WaitTimeout  string `yaml:"wait_timeout"`
	}
)

// parseManifest decodes and checks in flowbot's order; the answer is the manifest, or the name of the check that failed.
func parseManifest(text string) (m *manifest, failed string) {
	defer func() {
		if broken := recover(); broken != nil {
			m, failed = nil, "panic"
		}
	}()
	m = new(manifest)
	if err := yaml.Unmarshal([]byte(text), m); err != nil {
		return nil, "parse manifest"
	}
	switch {
	case m.Name == "":
		return nil, "missing name"
	case m.Runtime != "grpc" && m.Runtime != "wasm":
		return nil, "invalid runtime"
	case m.Runtime == "grpc" && m.GRPC == nil:
		return nil, "grpc config required"
	case m.Runtime == "wasm" && m.Wasm == nil:
		return nil, "wasm config required"
	}
	return m, ""
}

// answerManifest is what a manifest comes to: its texts, and for what has defaults the figures that flowbot runs with.
func answerManifest(text string) any {
	m, failed := parseManifest(text)
	if failed != "" {
		return map[string]any{"refused": failed}
	}
	for i, ability := range m.Provides.Abilities {
		m.Provides.Abilities[i].Operations = listed(ability.Operations)
	}
	m.Provides.Abilities = listed(m.Provides.Abilities)
	said := map[string]any{
		"name": m.Name, "version": m.Version, "description": m.Description, "author": m.Author,
		"runtime": m.Runtime, "provides": m.Provides, "config_schema": m.ConfigSchema, "grpc": nil, "wasm": nil,
	}
	if len(m.ConfigSchema) == 0 {
		said["config_schema"] = nil
	} else if !json.Valid(m.ConfigSchema) {
		said["config_schema"] = fmt.Sprintf("not JSON: %q", string(m.ConfigSchema))
	}
	if m.GRPC != nil {
		m.GRPC.Args = listed(m.GRPC.Args)
		said["grpc"] = m.GRPC
	}
	if m.Wasm != nil {
		said["wasm"] = effective(m.Wasm)
	}
	return said
}

// effective is what flowbot's wasm runner makes of its section.
func effective(wasm *wasmConfig) map[string]any {
	instances, wait, timeout, memory := 4, 5*time.Second, 30*time.Second, uint64(64<<20)
	hosts, folders := []string{}, []fsPermission{}
	if pool := wasm.Pool; pool != nil {
		if pool.MaxInstances > 0 {
			instances = pool.MaxInstances
		}
		wait = durationOr(pool.WaitTimeout, wait)
	}
	if p := wasm.Permissions; p != nil {
		if p.Execution != nil {
			timeout = durationOr(p.Execution.Timeout, timeout)
		}
		if p.Memory != nil {
			memory = sizeOr(p.Memory.Max, memory)
		}
		for _, http := range p.HTTP {
			hosts = append(hosts, http.Host)
		}
		folders = append(folders, p.Filesystem...)
	}
	return map[string]any{
		"module": wasm.Module, "max_instances": instances, "wait_timeout": wait, "timeout": timeout, "memory": memory,
		"http": hosts, "filesystem": folders,
	}
}

// durationOr is the duration, or the default where there is none that can be read.
func durationOr(text string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return otherwise
}

// sizeOr reads a size as flowbot does: blanks around it and before the unit, capital units of powers of 1024, 32 bits.
func sizeOr(text string, otherwise uint64) uint64 {
	number, shift := strings.TrimSpace(text), 0
	for _, unit := range []struct {
		name  string
		shift int
	}{{"GB", 30}, {"MB", 20}, {"KB", 10}, {"B", 0}} {
		if rest, found := strings.CutSuffix(number, unit.name); found {
			number, shift = rest, unit.shift
			break
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	if err != nil || n > math.MaxUint32>>shift {
		return otherwise
	}
	return n << shift
}

// listed is the list, empty instead of nil.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
