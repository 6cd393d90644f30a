"""S12, Python: a call from Python beside the same call from a C loop in the same process, interleaved rounds, medians.

Usage: target/venv/bin/python benches/python_call.py, after `make build plugins` and the package's installation
"""

import ctypes
import json
import pathlib
import statistics
import subprocess
import time

import flowplug
from flowplug._native import ffi, lib

# Rounds shorter than a busy system leaves a thread alone for.
ROUNDS = 301
root = pathlib.Path(__file__).resolve().parent.parent


def c_loop():
    """The C loop, compiled; it is handed the library's function, so that both call the same one."""
    out = root / "target/benches"
    out.mkdir(parents=True, exist_ok=True)
    source, built = root / "benches/support/loop.c", out / "loop.so"
    subprocess.run(["cc", "-std=c11", "-O2", "-shared", "-fPIC", "-I", root / "include", "-o", built, source], check=True)
    time_calls = ctypes.CDLL(str(built)).time_calls
    time_calls.restype = ctypes.c_double
    time_calls.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    return time_calls


def timed(call, count):
    start = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - start) / count


def compare(time_calls, echo, value, count=150):
    """Prints what one echo of a value takes, from C and from Python."""
    address = int(ffi.cast("uintptr_t", ffi.addressof(lib, "flowplug_function_call")))
    handle = int(ffi.cast("uintptr_t", echo._ptr))
    text = json.dumps(value, separators=(",", ":")).encode()
    assert echo.raw(text) == text and echo(value) == value
    cases = {
        "C": lambda: time_calls(address, handle, text, len(text), count),
        "Function.raw, bytes to bytes": lambda: timed(lambda: echo.raw(text), count),
        "Function(), dict to dict": lambda: timed(lambda: echo(value), count),
        "json alone, dumps and loads": lambda: timed(lambda: json.loads(json.dumps(value)), count),
    }
    rounds = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, run in cases.items():
            rounds[name].append(run())
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    print(f"\nPython: echo of {len(text)} B, wasm")
    for name, nanos in medians.items():
        print(f"  {name:<34} {nanos:8.0f} ns   C + {nanos - medians['C']:.0f} ns")


def main():
    time_calls = c_loop()
    manifest = flowplug.Manifest.read(root / "target/plugins/wat-hostile")
    with flowplug.Host(policy="trusted") as host, host.load(manifest, "bench") as plugin:
        plugin.start()
        echo = plugin.function("echo")
        for size in (100, 1024):
            compare(time_calls, echo, {"text": "x" * (size - 11)})
        echo.close()


if __name__ == "__main__":
    main()
