"""What the tests share: the plugins that `make plugins` built, and hosts that are closed whatever happens."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import flowplug

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = Path(os.environ.get("FLOWPLUG_TEST_PLUGINS", ROOT / "target" / "plugins"))
BOUND = 30.0  # seconds that nothing here takes unless it hangs


def folder(name: str) -> Path:
    path = PLUGINS / name
    if not (path / "plugin.yaml").exists():
        pytest.fail(f"There is no plugin in {path}; run: make plugins")
    return path


class Recorder(flowplug.HostAPI):
    """A store in memory, and all that was asked. A key that holds "bad" makes its function fail."""

    def __init__(self) -> None:
        self.store: dict[str, bytes] = {}
        self.callers: list[flowplug.Caller] = []
        self.asked: list[tuple] = []
        self.records: list[flowplug.LogRecord] = []
        self.logged = threading.Condition()
        self.inside = threading.Event()
        self.over = threading.Event()

    def _ask(self, caller: flowplug.Caller, *what: object) -> None:
        self.callers.append(caller)
        self.asked.append(what)
        if any("bad" in str(each) for each in what):
            raise RuntimeError("this is bad")

    def get_config(self, caller, key):
        self._ask(caller, "get_config", key)
        return {"name": "value", "empty": ""}.get(key)

    def kv_get(self, caller, key):
        self._ask(caller, "kv_get", key)
        return self.store.get(key)

    def kv_set(self, caller, key, value):
        self._ask(caller, "kv_set", key, value)
        self.store[key] = value
        if key.endswith(":inside"):
            self.inside.set()
            if FIXTURES["grpc"] in key:
                assert self.over.wait(BOUND)

    def kv_delete(self, caller, key):
        self._ask(caller, "kv_delete", key)
        self.store.pop(key, None)

    def http_request(self, caller, request):
        self._ask(caller, "http_request", request)
        return flowplug.HTTPResponse(201, {"X-Answer": "yes"}, b"made " + request.body)

    def emit_event(self, caller, event):
        self._ask(caller, "emit_event", event)

    def log(self, record):
        with self.logged:
            self.records.append(record)
            self.logged.notify_all()

    def wait_for_log(self, test) -> flowplug.LogRecord:
        with self.logged:
            assert self.logged.wait_for(lambda: any(test(r) for r in self.records), BOUND), self.records
            return next(r for r in self.records if test(r))


@pytest.fixture
def api() -> Recorder:
    return Recorder()


@pytest.fixture
def make_host():
    hosts: list[flowplug.Host] = []

    def make(**kwargs) -> flowplug.Host:
        host = flowplug.Host(**{"policy": "trusted", **kwargs})
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def callbacks() -> str:
    """A module's tests run with both kinds where it parametrizes this."""
    return "inline"


@pytest.fixture
def host(make_host, api, callbacks) -> flowplug.Host:
    return make_host(api=api, callbacks=callbacks)


def load(host: flowplug.Host, name: str, identity: str = "", **kwargs) -> flowplug.Plugin:
    with flowplug.Manifest.read(folder(name)) as manifest:
        return host.load(manifest, identity or name, **kwargs)


def start(host: flowplug.Host, name: str, config: object = None, **kwargs) -> flowplug.Plugin:
    plugin = load(host, name, **kwargs)
    plugin.start(config)
    return plugin


FIXTURES = {"wasm": "c-fixture", "grpc": "fixture-grpc-python"}


@pytest.fixture(params=FIXTURES.values(), ids=FIXTURES.keys())
def name(request) -> str:
    """The folder of a plugin that does what it is told, of each runtime."""
    return request.param


@pytest.fixture
def plugin(host, name):
    with start(host, name) as plugin:
        yield plugin


@pytest.fixture
def wasm(host):
    with start(host, FIXTURES["wasm"]) as plugin:
        yield plugin


@pytest.fixture
def grpc(host):
    with start(host, FIXTURES["grpc"]) as plugin:
        yield plugin


def do(what: str, **content: object) -> dict:
    """The params of a fixture's command."""
    return {"context": {}, "content": {"do": what, **content}}


def ask(fn: str, **args: object) -> dict:
    """The params of a fixture's command that calls a host function."""
    return do("host", fn=fn, args=args)


def endless(name: str) -> dict:
    """The params of a call that does not end by itself. The recorder's `inside` is set once it is inside the plugin (loaded under
    its own name); set `over` when the call has ended."""
    return do("sleep", ms=300_000, tell="inside") if name == FIXTURES["wasm"] else ask("kv_set", key="inside", value="1")
