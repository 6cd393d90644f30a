"""A program with plugins: loads each folder given, starts it, calls it, and tells what happened and what the plugin asked.

    target/venv/bin/python examples/python/host.py http://127.0.0.1:8000 target/plugins/bookmark-wasm-c

Everything that a plugin may ask for is answered by this program: its config, a key-value store, HTTP, a log and events.
The exit code is 0 only if everything came back as expected.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowplug

CONFIG = {"user_agent": "flowplug-demo"}


class App(flowplug.HostAPI):
    """The host functions, and what they saw. They run on any thread, so one lock guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.store: dict[str, bytes] = {}
        self.trace: list[str] = []
        self.events: list[dict[str, Any]] = []

    def asked(self, line: str) -> None:
        with self.lock:
            self.trace.append(line)

    def get_config(self, caller: flowplug.Caller, key: str) -> str | None:
        self.asked(f"get_config {key}")
        return super().get_config(caller, key)  # the library knows the config that the plugin was started with

    def kv_get(self, caller: flowplug.Caller, key: str) -> bytes | None:
        value = self.store.get(key)
        self.asked(f"kv_get {shown(caller, key)}{' (missing)' if value is None else ''}")
        return value

    def kv_set(self, caller: flowplug.Caller, key: str, value: bytes) -> None:
        self.asked(f"kv_set {shown(caller, key)}")
        self.store[key] = value

    def kv_delete(self, caller: flowplug.Caller, key: str) -> None:
        self.asked(f"kv_delete {shown(caller, key)}")
        self.store.pop(key, None)

    def http_request(self, caller: flowplug.Caller, request: flowplug.HTTPRequest) -> flowplug.HTTPResponse:
        response = flowplug.fetch(caller, request)  # asks the library before it follows a redirect
        self.asked(f"http {request.method} {request.url} {response.status}")
        return response

    def emit_event(self, caller: flowplug.Caller, event: dict[str, Any]) -> None:
        self.asked(f"event {event['event_type']}")
        self.events.append(event)

    def log(self, record: flowplug.LogRecord) -> None:
        if record.plugin and record.level >= flowplug.LogLevel.INFO:  # not the library's own, nor small talk
            self.asked(f"log {record.level.name.lower()} {record.message}")


def shown(caller: flowplug.Caller, key: str) -> str:
    """Keys arrive as plugin:<identity>:<key>; people want to see the last part."""
    return key.removeprefix(f"plugin:{caller.plugin}:")


class Account:
    """Tells what was done with one plugin: a line for each step, its time, and below it what the plugin asked."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.surprises = 0

    def step(
        self,
        name: str,
        do: Callable[[], Any],
        show: Callable[[Any], str] = lambda _: "",
        want: str = "",
    ) -> Any:
        since = time.perf_counter()
        try:
            result = do()
        except flowplug.FlowplugError as error:
            text = error.plugin_message or error.message
            self.tell(
                name,
                time.perf_counter() - since,
                f"{error.status.name.lower()}: {text}",
                want,
            )
            return None
        self.tell(name, time.perf_counter() - since, show(result), want)
        return result

    def tell(self, name: str, seconds: float, text: str, want: str) -> None:
        print(f"   {name:8} {duration(seconds):9}{text}".rstrip())
        with self.app.lock:
            if self.app.trace:
                print(f"              host: {' · '.join(self.app.trace)}")
            self.app.trace.clear()
        self.expect(want in text, f"{want!r} in that")

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            print(f"   UNEXPECTED: there should have been {what}")
            self.surprises += 1


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def provided(info: flowplug.PluginInfo) -> str:
    ability = info["provides"]["abilities"][0]
    return f"name {info['name']} {info['version']}, provides {ability['capability']}: {', '.join(ability['operations'])}"


def told(health: flowplug.Health) -> str:
    return f"{'ready' if health['ready'] else 'not ready: ' + health['last_error']}, up {health['uptime_ns'] / 1e9:.1f} s"


def use(account: Account, plugin: flowplug.Plugin, site: str) -> None:
    """Everything that is done with a plugin once it runs."""

    def bookmark(operation: str, **params: str) -> Callable[[], Any]:
        return lambda: plugin.call("ability_call", {"operation": operation, "params": params})

    def text(result: Any) -> str:
        return str(result["text"])

    for page, title in (
        ("/flow", "Flow, and how to find it"),
        ("/wasm", "WebAssembly &amp; friends"),
    ):
        seen = len(account.app.events)
        account.step("create", bookmark("create", url=site + page), text, f'Saved "{title}" as ')
        types = [event["event_type"] for event in account.app.events[seen:]]
        account.expect(types == ["bookmark.created"], "one event bookmark.created")
    listed = account.step("list", bookmark("list"), text, "2 bookmark(s)")
    first = listed["data"][0]["id"] if listed else ""
    account.step(
        "get",
        bookmark("get", id=first),
        lambda got: str(got["data"]["title"]),
        "Flow, and how to find it",
    )
    account.step(
        "command",
        lambda: plugin.call("command", {"context": {}, "content": {"text": "hello"}}),
        text,
        "2 bookmark(s) saved.",
    )
    account.step(
        "help",
        lambda: plugin.call("help"),
        lambda got: json.dumps(got, separators=(",", ":")),
        "create <url>",
    )
    account.step(
        "get",
        bookmark("get", id="00000000"),
        text,
        "plugin_error: no bookmark with id 00000000",
    )
    account.step(
        "health",
        plugin.health,
        lambda got: f"{'ready' if got['ready'] else 'not ready'}, up {got['uptime_ns'] / 1e9:.1f} s",
        "ready, up",
    )


def run(account: Account, host: flowplug.Host, folder: Path, site: str) -> None:
    """One plugin, from its manifest to its end. Its identity is its folder's name: where it came from, not what it says of itself."""
    with flowplug.Manifest.read(folder) as manifest:
        print(f"== {folder.name} ({manifest.to_dict()['runtime']}) with the Python host")
        since = time.perf_counter()
        plugin = host.load(manifest, folder.name)
    with plugin:
        account.tell(
            "load",
            time.perf_counter() - since,
            provided(plugin.info()),
            "name bookmarks 1.10",
        )
        account.step("start", lambda: plugin.start(CONFIG))
        use(account, plugin, site)
        account.step("stop", plugin.stop)
    print()


def main(site: str, folders: list[Path]) -> int:
    app = App()
    account = Account(app)
    # The operator's part: strict for all, and for each plugin named here its runtime and the site.
    grant = {"preset": "strict", "runtimes": ["wasm", "grpc"], "http": ["127.0.0.1"]}
    policy = {
        "default": "strict",
        "plugins": {folder.name: grant for folder in folders},
    }
    with flowplug.Host(api=app, policy=policy) as host:
        for folder in folders:
            try:
                run(account, host, folder, site)
            except flowplug.FlowplugError as error:
                account.expect(False, f"no failure: {error.status.name.lower()}: {error}")
    return 1 if account.surprises else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} <site-url> <plugin-folder>...")
    sys.exit(main(sys.argv[1], [Path(name).resolve() for name in sys.argv[2:]]))
