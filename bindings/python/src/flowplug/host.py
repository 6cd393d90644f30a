"""The host: where plugins live, and what they may ask."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any, cast

from . import _json
from ._callbacks import host_api
from ._calling import call_options
from ._managed import Managed, Out, ask_bytes, text
from ._native import ffi, lib
from .errors import FlowplugError
from .hostapi import HostAPI
from .manifest import Manifest
from .plugin import Plugin
from .types import Admission, LogRecord

_LEVELS = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]
_open: weakref.WeakSet[Host] = weakref.WeakSet()
_EXIT_DRAIN_SECONDS = 1.0


class Host(Managed):
    """A host of plugins. Close it, or use it in a `with`: after that no callback runs.

    api: what plugins may ask. policy: "strict" (the default), "trusted", or a dict with `default` and `plugins`. cache_dir: where
    compiled modules are kept (None: nowhere). kv_path: a file for the library's own store, made if it is not there, which
    one host has until it is closed (None: in memory). callbacks: "inline", on the thread that called the plugin (the
    default), or "detached", on threads of the library, so that a call ends at its timeout whatever a callback does; at most 256 then
    run at once, 32 of them for one plugin (or as many as it may have instances, if that is more). log: a function or a
    `logging.Logger` that takes records of plugins and of the library, instead of api.log. on_event:
    takes the library's events. http_ca_file: the certificates, in PEM, that the library's HTTP client trusts in place of the system's.
    """

    def __init__(
        self,
        api: HostAPI | None = None,
        policy: Any = None,
        cache_dir: str | os.PathLike[str] | None = None,
        kv_path: str | os.PathLike[str] | None = None,
        callbacks: str = "inline",
        log: Callable[[LogRecord], None] | logging.Logger | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        http_ca_file: str | os.PathLike[str] | None = None,
    ) -> None:
        config: dict[str, Any] = {"callbacks": callbacks}
        if policy is not None:
            config["policy"] = policy
        for name, path in (("cache_dir", cache_dir), ("kv_path", kv_path)):
            if path is not None:
                config[name] = os.fspath(path)
        if http_ca_file is not None:
            config["http"] = {"ca_file": os.fspath(http_ca_file)}
        options = ffi.new("flowplug_host_options *")
        options.struct_size = ffi.sizeof("flowplug_host_options")
        options.config, _keep = text(_json.dumps(config))
        # Past this line the library answers for the callbacks' user data, so nothing may fail in between.
        struct = host_api(api, _to_logger(log) if isinstance(log, logging.Logger) else log, on_event)
        options.api = struct
        out, handle = Out(), ffi.new("flowplug_host **")
        out.check(lib.flowplug_host_new(options, handle, out.error))
        self._own(handle[0], lib.flowplug_host_free)
        _open.add(self)

    def load(
        self,
        manifest: Manifest,
        identity: str,
        policy: Any = None,
        api: HostAPI | None = None,
        timeout: float | None = None,
    ) -> Plugin:
        """Loads a plugin: starts its process, or compiles its module. `start` it next.

        identity says who it is, whatever its manifest claims; it names its part of the store. policy and api, if given, serve this
        plugin in the host's place. Raises `LoadFailedError`, `PermissionDeniedError`, `CallTimeoutError` and others.
        """
        host, declared = self._ptr, manifest._ptr
        name, _keep_name = text(identity)
        call, _keep_call = call_options(timeout)
        options = ffi.new("flowplug_plugin_options *")
        options.struct_size = ffi.sizeof("flowplug_plugin_options")
        options.policy, _keep = text(_json.dumps(policy))
        struct = host_api(api)
        options.api = struct
        out, handle = Out(), ffi.new("flowplug_plugin **")
        out.check(lib.flowplug_plugin_load(host, declared, name, options, call, handle, out.error))
        return Plugin(self, handle[0], identity)

    def admit(self, manifest: Manifest, identity: str, policy: Any = None) -> Admission:
        """What `load` would grant to the manifest under this identity; loads nothing.

        policy, if given, serves in the place of the host's. What is denied stands in the answer and raises nothing.
        """
        name, _keep_name = text(identity)
        options = ffi.new("flowplug_plugin_options *")
        options.struct_size = ffi.sizeof("flowplug_plugin_options")
        options.policy, _keep = text(_json.dumps(policy))
        return cast(Admission, _json.loads(ask_bytes(lib.flowplug_host_admit, self._ptr, manifest._ptr, name, options)))

    def metrics(self) -> str:
        """What operators count of all plugins of the host, as Prometheus text: serve it as "text/plain; version=0.0.4"."""
        return ask_bytes(lib.flowplug_host_metrics, self._ptr).decode()

    def close(self, timeout: float | None = None) -> None:
        """Stops every plugin and waits until no callback runs. Calls in flight have `timeout` seconds to end by themselves.

        Raises `CallTimeoutError` if a callback has not returned by then (call it again), and `InvalidStateError` inside a callback.
        Closing twice is fine.
        """
        handle = self._handle
        if handle is None:
            return
        out = Out()
        options, _keep = call_options(timeout, parent=0)
        out.check(lib.flowplug_host_close(handle, options, out.error))
        self._handle = None
        _open.discard(self)

    def __del__(self) -> None:
        if self._handle is not None:
            warnings.warn("A flowplug.Host was not closed; use it in a with statement.", ResourceWarning, stacklevel=2, source=self)


def _to_logger(logger: logging.Logger) -> Callable[[LogRecord], None]:
    def write(record: LogRecord) -> None:
        fields = "".join(f" {name}={value}" for name, value in record.fields.items())
        logger.log(_LEVELS[record.level], "%s%s%s", f"{record.plugin}: " if record.plugin else "", record.message, fields)

    return write


@atexit.register
def _close_all() -> None:
    # A callback must not find an interpreter that is shutting down.
    for host in list(_open):
        with contextlib.suppress(FlowplugError):
            host.close(_EXIT_DRAIN_SECONDS)
