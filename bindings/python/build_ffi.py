"""Declares flowplug._native, the extension between Python and libflowplug, from include/flowplug.h itself."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "include" / "flowplug.h"

# What the library calls back; the Python side of each is in flowplug/_callbacks.py and flowplug/_async.py.
CALLBACKS = """
extern "Python" {
    void flowplug_py_destroy(void *);
    void flowplug_py_get_config(void *, flowplug_request, const flowplug_caller *, flowplug_str);
    void flowplug_py_kv_get(void *, flowplug_request, const flowplug_caller *, flowplug_str);
    void flowplug_py_kv_set(void *, flowplug_request, const flowplug_caller *, flowplug_str, flowplug_str);
    void flowplug_py_kv_delete(void *, flowplug_request, const flowplug_caller *, flowplug_str);
    void flowplug_py_http_request(void *, flowplug_request, const flowplug_caller *, const flowplug_http_request *);
    void flowplug_py_emit_event(void *, flowplug_request, const flowplug_caller *, flowplug_str);
    void flowplug_py_log(void *, const flowplug_log_record *);
    void flowplug_py_event(void *, flowplug_str);
    void flowplug_py_done(void *, flowplug_status, flowplug_bytes *, flowplug_error *);
}
"""

# One crossing for what would else take several: `options` is reused between calls, the text comes straight from a bytes object.
HELPERS = """
flowplug_str flowplug_py_str(const char *ptr, size_t len);
flowplug_status flowplug_py_call(flowplug_function *function, const char *params, size_t len,
                                 const flowplug_call_options *options, uint8_t *buf, size_t cap, flowplug_bytes *out,
                                 flowplug_error **error);
"""

HELPERS_SOURCE = """
#include <flowplug.h>
static flowplug_str flowplug_py_str(const char *ptr, size_t len) {
    flowplug_str str;
    str.ptr = ptr;
    str.len = len;
    return str;
}
static flowplug_status flowplug_py_call(flowplug_function *function, const char *params, size_t len,
                                        const flowplug_call_options *options, uint8_t *buf, size_t cap, flowplug_bytes *out,
                                        flowplug_error **error) {
    return flowplug_function_call(function, flowplug_py_str(params, len), options, buf, cap, out, error);
}
"""


def declarations(header: str) -> str:
    """The header as cffi reads it: no comments, no preprocessor; constants stay as `#define NAME ...`."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", header, flags=re.DOTALL)
    text = re.sub(r"\\\n", " ", text)
    lines: list[str] = []
    # One entry for each open #if: whether a C compiler (where __cplusplus is not defined) reads what is inside.
    taken: list[bool] = []
    for line in text.splitlines():
        directive = re.match(r"\s*#\s*(\w+)\s*(.*)", line)
        if not directive:
            if all(taken):
                lines.append(line)
            continue
        name, rest = directive.groups()
        if name in ("if", "ifdef"):
            taken.append("__cplusplus" not in rest)
        elif name == "ifndef":
            taken.append(True)
        elif name in ("else", "elif"):
            taken[-1] = not taken[-1]
        elif name == "endif":
            taken.pop()
        elif name == "define" and all(taken):
            constant = re.match(r"(FLOWPLUG_\w+)\s+(?:\d+|UINT64_MAX)\s*$", rest)
            if constant:
                lines.append(f"#define {constant.group(1)} ...")
    return "\n".join(line for line in lines if line.strip()) + "\n"


def library_dir() -> Path:
    """The folder of libflowplug.so: FLOWPLUG_LIB_DIR, else what cargo built here last, else what it builds now."""
    given = os.environ.get("FLOWPLUG_LIB_DIR")
    if given:
        folder = Path(given).resolve()
        if not (folder / "libflowplug.so").exists():
            raise SystemExit(f"FLOWPLUG_LIB_DIR is {folder}, but there is no libflowplug.so in it; build the library there or unset it.")
        return folder
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for profile in ("release", "debug") if (path := target / profile / "libflowplug.so").exists()]
    if not built:
        subprocess.run(["cargo", "build", "--release", "--lib"], cwd=ROOT, check=True)
        built = [target / "release" / "libflowplug.so"]
    return max(built, key=lambda path: path.stat().st_mtime).resolve().parent


ffi = FFI()
ffi.cdef(declarations(HEADER.read_text()) + HELPERS + CALLBACKS)
ffi.set_source(
    "flowplug._native",
    HELPERS_SOURCE,
    include_dirs=[str(HEADER.parent)],
    libraries=["flowplug"],
    library_dirs=[str(library_dir())],
    # The library lies beside the extension, wherever the wheel is unpacked.
    extra_link_args=["-Wl,-rpath,$ORIGIN"],
    py_limited_api=True,
)
