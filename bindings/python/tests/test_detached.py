"""Detached callbacks: a call ends in time whatever a callback does."""

import threading

import pytest
from conftest import BOUND, FIXTURES, ask, do, start

import flowplug


class Blocking(flowplug.HostAPI):
    """A callback that blocks until it is told."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.release = threading.Event()
        self.thread = 0

    def kv_get(self, caller, key):
        self.thread = threading.get_ident()
        self.inside.set()
        assert self.release.wait(BOUND)
        return "late"


@pytest.fixture
def blocking():
    api = Blocking()
    yield api
    # Before the host is closed, which waits for it.
    api.release.set()


@pytest.fixture
def plugin(make_host, name, blocking):
    with start(make_host(api=blocking, callbacks="detached"), name) as plugin:
        yield plugin
        blocking.release.set()


def test_a_timeout_ends_a_call_whose_callback_blocks(plugin, blocking):
    with pytest.raises(flowplug.CallTimeoutError):
        plugin.call("command", ask("kv_get", key="k"), timeout=0.3)
    assert blocking.inside.wait(BOUND)
    assert not blocking.release.is_set()
    assert blocking.thread != threading.get_ident()
    assert plugin.call("command", do("echo", n=1)) == {"do": "echo", "n": 1}


def test_a_cancel_does_too(plugin, blocking):
    with flowplug.CancelToken() as token:
        canceller = threading.Thread(target=lambda: (blocking.inside.wait(BOUND), token.cancel()))
        canceller.start()
        with pytest.raises(flowplug.CallCancelledError):
            plugin.call("command", ask("kv_get", key="k"), timeout=BOUND, cancel=token)
        canceller.join()
    assert plugin.call("command", do("echo", n=1)) == {"do": "echo", "n": 1}


def test_close_waits_for_a_callback_that_blocks(make_host, blocking):
    host = make_host(api=blocking, callbacks="detached")
    plugin = start(host, FIXTURES["wasm"])
    with pytest.raises(flowplug.CallTimeoutError):
        plugin.call("command", ask("kv_get", key="k"), timeout=0.3)
    assert blocking.inside.wait(BOUND)
    with pytest.raises(flowplug.CallTimeoutError):
        host.close(0.05)
    blocking.release.set()
    host.close()


def test_the_answer_of_a_callback_that_returns_in_time(plugin, blocking):
    blocking.release.set()
    assert plugin.call("command", ask("kv_get", key="k"), timeout=BOUND) == {"value": "late"}
