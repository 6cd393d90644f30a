"""A manager: folders of plugins, run and followed as they change."""

from __future__ import annotations

import os
from typing import Any, cast

from . import _json
from ._calling import call_options, raise_interrupt
from ._managed import Managed, Out, ask_bytes, text
from ._native import ffi, lib
from .cancel import CancelToken
from .host import Host
from .manifest import Manifest
from .plugin import Plugin
from .types import Health, Instance


class Manager(Managed):
    """Plugins of a host, by identity. Close it, or use it in a `with`, which stops it.

    config: flowbot's plugins section, a dict or a text in YAML or JSON: enabled, sources, config, hot_reload, drain_timeout,
    max_plugins. Raises `InvalidConfigError` with every problem in it. Its plugins get the host's callbacks and policy.
    """

    def __init__(self, host: Host, config: Any = None) -> None:
        value, _keep = text(config if isinstance(config, str) else _json.dumps(config))
        out, handle = Out(), ffi.new("flowplug_manager **")
        out.check(lib.flowplug_manager_new(host._ptr, value, handle, out.error))
        self._own(handle[0], lib.flowplug_manager_free)
        self.host = host

    def start(self, timeout: float | None = None, cancel: CancelToken | None = None) -> None:
        """Discovers, loads and starts everything, side by side, then follows the changes.

        A plugin that fails stays in `list` with its cause and stops no other. Raises the error of a source that cannot be used,
        though everything else is started and the manager runs; `CallTimeoutError` and `CallCancelledError`, likewise.
        """
        out = Out()
        options, _keep = call_options(timeout, cancel)
        try:
            out.check(lib.flowplug_manager_start(self._ptr, options, out.error))
        finally:
            raise_interrupt()

    def load(self, folder: str | os.PathLike[str], config: Any = None, timeout: float | None = None) -> str:
        """Loads and starts the plugin in a folder, whose name is its identity, and returns that. If it fails, nothing of it stays."""
        path = os.path.abspath(folder)
        where, _keep_where = text(path)
        value, _keep = text(_json.dumps(config))
        options, _keep_options = call_options(timeout)
        out = Out()
        out.check(lib.flowplug_manager_load(self._ptr, where, value, options, out.error))
        return os.path.basename(path)

    def reload(self, identity: str, manifest: Manifest | None = None, config: Any = None, timeout: float | None = None) -> None:
        """Reloads a plugin without refusing a call; manifest None: as on disk; config None: as before.

        If it fails, what ran goes on, and `list` shows why.
        """
        name, _keep_name = text(identity)
        value, _keep = text(_json.dumps(config))
        options, _keep_options = call_options(timeout)
        declared = ffi.NULL if manifest is None else manifest._ptr
        out = Out()
        out.check(lib.flowplug_manager_reload(self._ptr, name, declared, value, options, out.error))

    def unload(self, identity: str, drain: float | None = None) -> None:
        """Gives calls in flight `drain` seconds (None: the config's drain_timeout), stops the plugin and forgets it.
        A CallTimeoutError: a callback has not returned; unload it again to wait for it."""
        name, _keep_name = text(identity)
        options, _keep = call_options(drain)
        out = Out()
        out.check(lib.flowplug_manager_unload(self._ptr, name, options, out.error))

    def list(self) -> list[Instance]:
        """All plugins, in the order of their identities."""
        return cast("list[Instance]", _json.loads(ask_bytes(lib.flowplug_manager_list, self._ptr)))

    def get(self, identity: str) -> Plugin:
        """A plugin, to be called: closing it lets go of it alone, the plugin stays the manager's.

        Raises `NotFoundError`, and `InvalidStateError` with the cause where it could not be loaded.
        """
        name, _keep_name = text(identity)
        out, handle = Out(), ffi.new("flowplug_plugin **")
        out.check(lib.flowplug_manager_get(self._ptr, name, handle, out.error))
        return Plugin(self.host, handle[0], identity)

    def call(
        self,
        identity: str,
        function: str,
        params: Any = None,
        *,
        timeout: float | None = None,
        cancel: CancelToken | None = None,
        tag: int = 0,
        traceparent: str | None = None,
        parent: int | None = None,
    ) -> Any:
        """Calls a function of a plugin by its identity, as `Plugin.call` does."""
        who, _keep_who = text(identity)
        name, _keep_name = text(function)
        value, _keep = text(_json.dumps(params))
        options, _keep_options = call_options(timeout, cancel, tag, traceparent, parent, trust=True)
        try:
            answer = ask_bytes(lib.flowplug_manager_call, self._ptr, who, name, value, options)
        finally:
            raise_interrupt()
        return _json.loads(answer, identity, function)

    def health(self, identity: str) -> Health:
        """How a plugin is; one that could not be loaded is in the state error, with the cause."""
        name, _keep_name = text(identity)
        return cast(Health, _json.loads(ask_bytes(lib.flowplug_manager_health, self._ptr, name, ffi.NULL)))

    def metrics(self) -> str:
        """Figures of all plugins in Prometheus' text format."""
        return ask_bytes(lib.flowplug_manager_metrics, self._ptr).decode()

    def stop(self, drain: float | None = None) -> None:
        """Ends what is under way and stops all plugins, all at once, with `drain` seconds (None: the config's drain_timeout) for
        calls in flight. Stopping twice is fine. A CallTimeoutError: a callback has not returned; stop it again to wait for it."""
        options, _keep = call_options(drain)
        out = Out()
        out.check(lib.flowplug_manager_stop(self._ptr, options, out.error))

    def __exit__(self, *exc: object) -> None:
        if not self.closed and not self.host.closed:
            self.stop()
        self.close()
