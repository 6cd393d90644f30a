"""The package as it is shipped, and the header that it was made from."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import mypy.api
import pytest
from conftest import ROOT

import flowplug
from flowplug import _native, errors

PROJECT = ROOT / "bindings" / "python"
HEADER = (ROOT / "include" / "flowplug.h").read_text()


def declared() -> str:
    source = (PROJECT / "build_ffi.py").read_text()
    namespace: dict = {"__file__": str(PROJECT / "build_ffi.py")}
    # Only its functions: what follows would look for a library to link.
    exec(compile(source[: source.index("\nffi = FFI()")], "build_ffi.py", "exec"), namespace)
    return namespace["declarations"](HEADER)


def test_every_function_and_constant_of_the_header_is_there():
    text = declared()
    functions = set(re.findall(r"\b(flowplug_\w+)\s*\(", text)) - set(re.findall(r"\(\s*\*\s*(flowplug_\w+)", text))
    assert len(functions) > 50
    for function in functions:
        assert callable(getattr(_native.lib, function)), function
    constants = re.findall(r"#define (FLOWPLUG_\w+) \.\.\.", text)
    assert {"FLOWPLUG_OK", "FLOWPLUG_NO_TIMEOUT", "FLOWPLUG_CALL_TRUST_JSON", "FLOWPLUG_STATE_STOPPED"} <= set(constants)
    assert _native.lib.FLOWPLUG_NO_TIMEOUT == 2**64 - 1


def test_nothing_but_declarations_is_left_of_the_header():
    text = declared()
    assert "__cplusplus" not in text and "extern" not in text and "/*" not in text and "_INIT" not in text


@pytest.mark.parametrize("status", flowplug.Status)
def test_statuses_are_those_of_the_library(status):
    assert getattr(_native.lib, f"FLOWPLUG_{status.name}") == status
    assert _native.ffi.string(_native.lib.flowplug_status_name(status)).decode() == status.name.lower()
    if status is not flowplug.Status.OK:
        assert errors.BY_STATUS[status].status is status
        assert errors.BY_STATUS[status].__name__ in flowplug.__all__


@pytest.mark.parametrize("kind", [flowplug.State, flowplug.LogLevel])
def test_other_numbers_are_those_of_the_library(kind):
    prefix = {"State": "STATE", "LogLevel": "LOG"}[kind.__name__]
    for member in kind:
        assert getattr(_native.lib, f"FLOWPLUG_{prefix}_{member.name}") == member


def test_the_version():
    assert flowplug.__version__ == "0.1.0"


def test_the_wheel_holds_the_library_and_nothing_strange(tmp_path):
    library = next(Path(flowplug.__file__).parent.glob("libflowplug.so*"))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libflowplug.so").symlink_to(library)
    env = {**os.environ, "FLOWPLUG_LIB_DIR": str(tmp_path / "lib")}
    build = ["-q", "egg_info", "--egg-base", tmp_path, "build", "--build-base", tmp_path / "build", "bdist_wheel", "-d", tmp_path / "dist"]
    run = subprocess.run([sys.executable, "setup.py", *map(str, build)], cwd=PROJECT, env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    assert re.fullmatch(r"flowplug-0\.1\.0-cp39-abi3-linux_\w+\.whl", wheel.name)
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {f"flowplug/{path.name}" for path in (PROJECT / "src" / "flowplug").iterdir() if path.suffix in (".py", ".pyi", ".typed")}
    assert names == sources | {"flowplug/py.typed", "flowplug/_native.abi3.so", f"flowplug/{library.name}"}


def test_the_extension_finds_the_library_beside_it():
    folder = Path(flowplug.__file__).parent
    dynamic = subprocess.run(["readelf", "-d", folder / "_native.abi3.so"], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(libflowplug.*)\]", dynamic)
    assert len(needed) == 1 and (folder / needed[0]).exists()
    (path,) = re.findall(r"(?:RPATH|RUNPATH).*\[(.*)\]", dynamic)
    assert "$ORIGIN" in path.split(":")
    assert "not found" not in subprocess.run(["ldd", folder / "_native.abi3.so"], capture_output=True, text=True, check=True).stdout


def test_the_types_are_complete():
    out, err, status = mypy.api.run(["--config-file", str(PROJECT / "pyproject.toml"), "--cache-dir", os.devnull, str(PROJECT / "src")])
    assert status == 0, out + err
