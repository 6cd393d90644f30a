//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"unsafe"
)

// libManifest has the library read a manifest, from path if there is one, else from data.
func libManifest(data []byte, path, baseDir string, strict bool) (text []byte, warnings []string, err error) {
	f, err := takeFrame(context.Background())
	if err != nil {
		return nil, nil, err
	}
	defer f.giveBack()
	manifest, err := f.manifest(data, path, baseDir, strict)
	if err != nil {
		return nil, nil, err
	}
	defer C.fp_manifest_free(manifest)
	if status := C.fp_manifest_json(manifest, f.c); status != C.FLOWPLUG_OK {
		return nil, nil, f.error(status)
	}
	text = f.take()
	if status := C.fp_manifest_warnings(manifest, f.c); status != C.FLOWPLUG_OK {
		return nil, nil, f.error(status)
	}
	if err := json.Unmarshal(f.take(), &warnings); err != nil {
		return nil, nil, notUnderstood("list of warnings", err)
	}
	return text, warnings, nil
}

// manifest makes a manifest of the library; the caller frees it.
func (f *frame) manifest(data []byte, path, baseDir string, strict bool) (unsafe.Pointer, error) {
	flag := C.int32_t(0)
	if strict {
		flag = 1
	}
	dir, dirLen := charsOf(baseDir)
	var status C.flowplug_status
	if path != "" {
		ptr, n := charsOf(path)
		status = C.fp_manifest_read(ptr, n, dir, dirLen, flag, f.c)
	} else {
		ptr, n := chars(data)
		status = C.fp_manifest_parse(ptr, n, dir, dirLen, flag, f.c)
	}
	if status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	return f.c.handle, nil
}

// ofManifest makes a manifest of the library from one of Go; the caller frees it.
func (f *frame) ofManifest(m *Manifest) (unsafe.Pointer, error) {
	if m == nil {
		return nil, &Error{Status: StatusInvalidArgument, Message: "The manifest is nil: read one with ReadManifest or ParseManifest."}
	}
	text, err := m.text()
	if err != nil {
		return nil, err
	}
	return f.manifest(text, "", m.baseDir, false)
}

func libValidateConfig(manifest, config []byte) error {
	f, err := takeFrame(context.Background())
	if err != nil {
		return err
	}
	defer f.giveBack()
	parsed, err := f.manifest(manifest, "", "", false)
	if err != nil {
		return err
	}
	defer C.fp_manifest_free(parsed)
	ptr, n := chars(config)
	if status := C.fp_manifest_validate(parsed, ptr, n, f.c); status != C.FLOWPLUG_OK {
		return f.error(status)
	}
	return nil
}

func libFillConfig(manifest, config []byte) ([]byte, error) {
	f, err := takeFrame(context.Background())
	if err != nil {
		return nil, err
	}
	defer f.giveBack()
	parsed, err := f.manifest(manifest, "", "", false)
	if err != nil {
		return nil, err
	}
	defer C.fp_manifest_free(parsed)
	ptr, n := chars(config)
	if status := C.fp_manifest_fill(parsed, ptr, n, f.c); status != C.FLOWPLUG_OK {
		return nil, f.error(status)
	}
	return f.take(), nil
}

// ManifestSchema is the JSON Schema of plugin.yaml, for editors and for checks of one's own.
func ManifestSchema() json.RawMessage {
	return json.RawMessage(C.GoString(C.flowplug_manifest_schema()))
}

// PolicySchema is the JSON Schema of a policy: see [WithPolicy].
func PolicySchema() json.RawMessage { return json.RawMessage(C.GoString(C.flowplug_policy_schema())) }

// libHTTPCheck asks whether a request of a plugin may go to url.
func libHTTPCheck(request uint64, url string) error {
	f, err := takeFrame(context.Background())
	if err != nil {
		return err
	}
	defer f.giveBack()
	ptr, n := charsOf(url)
	if status := C.fp_request_http_check(C.uint64_t(request), ptr, n, f.c); status != C.FLOWPLUG_OK {
		return f.error(status)
	}
	return nil
}

// Version is that of the library that the program is linked with; empty without one.
func Version() string { return C.GoString(C.flowplug_version()) }
