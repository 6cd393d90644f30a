"""Whole programs, in Python's development mode: they end cleanly, and say so where they were careless."""

import signal
import subprocess
import sys
import textwrap

import pytest
from conftest import FIXTURES, folder

PRELUDE = """
import faulthandler, os, signal, sys, threading, time
faulthandler.enable()
import flowplug

class API(flowplug.HostAPI):
    def kv_get(self, caller, key):
        return key.encode()
    def log(self, record):
        pass

DO = {"context": {}, "content": {"do": "host", "fn": "kv_get", "args": {"key": "a"}}}
folder = sys.argv[1]

def start(host):
    plugin = host.load(flowplug.Manifest.read(folder), "plugin")
    plugin.start()
    return plugin
"""


def program(body: str, plugin: str) -> subprocess.CompletedProcess:
    script = textwrap.dedent(PRELUDE) + textwrap.dedent(body)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", script, str(folder(plugin))]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("plugin", FIXTURES.values(), ids=FIXTURES.keys())
def test_all_in_order(plugin):
    run = program(
        """
        with flowplug.Host(api=API(), policy="trusted") as host, start(host) as plugin:
            print(plugin.call("command", DO))
        """,
        plugin,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "{'value': 'plugin:plugin:a'}\n", "")


@pytest.mark.parametrize("plugin", FIXTURES.values(), ids=FIXTURES.keys())
def test_an_exit_with_everything_open_and_a_call_in_flight(plugin):
    run = program(
        """
        host = flowplug.Host(api=API(), policy="trusted")
        plugin = start(host)
        print(plugin.call("command", DO))
        sleep = {"context": {}, "content": {"do": "sleep", "ms": 300000}}
        def call():
            try:
                plugin.call("command", sleep)
            except flowplug.FlowplugError:
                pass
        threading.Thread(target=call, daemon=True).start()
        """,
        plugin,
    )
    assert (run.returncode, run.stdout) == (0, "{'value': 'plugin:plugin:a'}\n"), run.stderr
    assert "Fatal" not in run.stderr and "panick" not in run.stderr


def test_a_host_that_is_lost_is_warned_about():
    run = program(
        """
        import warnings
        warnings.simplefilter("always")
        flowplug.Host(policy="trusted")
        """,
        FIXTURES["wasm"],
    )
    assert run.returncode == 0
    assert "ResourceWarning: A flowplug.Host was not closed" in run.stderr


def test_ctrl_c_in_a_callback_is_raised_where_the_call_was_made():
    run = program(
        """
        class API(flowplug.HostAPI):
            def kv_get(self, caller, key):
                signal.raise_signal(signal.SIGINT)
                time.sleep(60)

        # What a shell runs in the background ignores the signal from the start.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        with flowplug.Host(api=API(), policy="trusted") as host, start(host) as plugin:
            try:
                plugin.call("command", DO)
            except KeyboardInterrupt:
                print("interrupted")
        """,
        FIXTURES["wasm"],
    )
    assert (run.returncode, run.stdout) == (0, "interrupted\n"), run.stderr


def test_a_forked_child_is_told_and_the_parent_goes_on():
    run = program(
        """
        with flowplug.Host(api=API(), policy="trusted") as host, start(host) as plugin:
            child = os.fork()
            if child == 0:
                try:
                    plugin.call("command", DO)
                except flowplug.InvalidStateError:
                    os._exit(7)
                os._exit(1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), plugin.call("command", DO))
        """,
        FIXTURES["wasm"],
    )
    assert (run.returncode, run.stdout) == (0, "7 {'value': 'plugin:plugin:a'}\n"), run.stderr


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_of_the_program_is_dumped_by_faulthandler(when):
    """Whoever installed its handler last: the library's passes on what is none of its traps."""
    run = program(
        f"""
        {"faulthandler.disable()" if when == "after" else ""}
        with flowplug.Host(policy="trusted") as host, start(host) as plugin:
            try:
                plugin.call("command", {{"context": {{}}, "content": {{"do": "panic"}}}})
            except flowplug.TrapError:
                print("trapped", flush=True)
            faulthandler.enable()
            import ctypes
            def fault():
                ctypes.string_at(0)
            fault()
        """,
        FIXTURES["wasm"],
    )
    assert (run.returncode, run.stdout) == (-signal.SIGSEGV, "trapped\n"), run.stderr
    assert "Fatal Python error: Segmentation fault" in run.stderr
    assert " in fault" in run.stderr


@pytest.mark.parametrize("callbacks", ["inline", "detached"])
def test_a_fault_in_a_callback_is_dumped_too(callbacks):
    run = program(
        f"""
        class API(flowplug.HostAPI):
            def kv_get(self, caller, key):
                import ctypes
                ctypes.string_at(0)

        with flowplug.Host(api=API(), policy="trusted", callbacks="{callbacks}") as host, start(host) as plugin:
            plugin.call("command", DO)
        """,
        FIXTURES["wasm"],
    )
    assert run.returncode == -signal.SIGSEGV, run.stderr
    assert "Fatal Python error: Segmentation fault" in run.stderr
    assert " in kv_get" in run.stderr
