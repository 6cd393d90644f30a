"""One loaded plugin."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from . import _json
from ._async import Completion
from ._calling import call_options, raise_interrupt
from ._managed import Managed, Out, ask_bytes, text
from ._native import ffi, lib
from .cancel import CancelToken
from .errors import InvalidResponseError
from .function import Function
from .manifest import Manifest
from .types import Health, PluginInfo, State

if TYPE_CHECKING:
    from .host import Host


# Functions that a plugin keeps resolved; names beyond are resolved for every call.
_CACHED_MAX = 64


class Plugin(Managed):
    """Made by `Host.load`. Any number of threads may use it at once; `close` ends it without waiting, `stop` in good order."""

    def __init__(self, host: Host, handle: Any, identity: str) -> None:
        self._own(handle, lib.flowplug_plugin_free)
        self.host = host
        self.identity = identity
        # What `call` resolved, for the next call of the name.
        self._functions: dict[str, Function] = {}

    def close(self) -> None:
        super().close()
        # Each holds the plugin.
        self._functions = {}

    def start(self, config: Any = None, timeout: float | None = None, cancel: CancelToken | None = None) -> None:
        """Checks the config (any JSON value) and starts the plugin with it.

        Raises `InvalidConfigError` (and can be tried again), `StartFailedError` with the plugin's own words in plugin_message.
        """
        out = Out()
        value, _keep = text(_json.dumps(config))
        options, _keep_options = call_options(timeout, cancel)
        try:
            out.check(lib.flowplug_plugin_start(self._ptr, value, options, out.error))
        finally:
            raise_interrupt()

    def call(
        self,
        function: str,
        params: Any = None,
        *,
        timeout: float | None = None,
        cancel: CancelToken | None = None,
        tag: int = 0,
        traceparent: str | None = None,
        parent: int | None = None,
    ) -> Any:
        """Calls a function of the plugin and returns its answer, parsed.

        params: any JSON value, or bytes of JSON text. tag reaches the host's callbacks. parent: the request on whose behalf the
        call is made, known where the call is made inside a callback. Raises a subclass of `FlowplugError`.
        """
        known = self._functions.get(function) or self._resolve(function)
        return known(params, timeout=timeout, cancel=cancel, tag=tag, traceparent=traceparent, parent=parent)

    async def acall(
        self,
        function: str,
        params: Any = None,
        *,
        timeout: float | None = None,
        tag: int = 0,
        traceparent: str | None = None,
        parent: int | None = None,
    ) -> Any:
        """As `call`, for asyncio. Cancelling the task cancels the call.

        A wasm call made so holds a thread of the library until it ends: one of 256 of its host's, of which a plugin has 32, or as many
        as it may have instances if that is more. Past that it waits its turn, so that calls whose callbacks wait for another `acall`
        of the same plugin can stall until their deadlines.
        """
        out = Out()
        name, _keep_name = text(function)
        value, _keep = text(_json.dumps(params))
        plugin, completion = self._ptr, Completion()
        with CancelToken() as token:
            options, _keep_options = call_options(timeout, token, tag, traceparent, parent, trust=True)
            struct = completion.struct()
            out.check(lib.flowplug_plugin_call_async(plugin, name, value, options, struct, out.error))
            try:
                answer = await completion.future
            except asyncio.CancelledError:
                token.cancel()
                raise
        return self._parse(answer, function)

    def function(self, name: str) -> Function:
        """Resolves a name once, for calls that must be fast."""
        out, handle = Out(), ffi.new("flowplug_function **")
        value, _keep = text(name)
        out.check(lib.flowplug_function_new(self._ptr, value, handle, out.error))
        return Function(self.identity, name, handle[0])

    def _resolve(self, name: str) -> Function:
        function = self.function(name)
        if len(self._functions) < _CACHED_MAX:
            self._functions[name] = function
        if self.closed:  # meanwhile
            self._functions = {}
        return function

    def health(self, timeout: float | None = None) -> Health:
        """Whether it can take calls, in every state. What went wrong is `last_error`."""
        options, _keep = call_options(timeout)
        return cast(Health, _json.loads(ask_bytes(lib.flowplug_plugin_health, self._ptr, options)))

    def info(self) -> PluginInfo:
        """What it is and what it was granted."""
        return cast(PluginInfo, _json.loads(ask_bytes(lib.flowplug_plugin_info, self._ptr)))

    @property
    def state(self) -> State:
        return State(lib.flowplug_plugin_state(self._ptr))

    def reload(self, manifest: Manifest, config: Any = None, timeout: float | None = None, cancel: CancelToken | None = None) -> None:
        """Puts another version in the plugin's place, without a call that is refused or lost. config: any JSON value; None: as before.

        Loads and starts the new one, waits until it is ready, lets new calls find it, gives calls of the old one 30 seconds to end, and
        stops that. timeout and cancel bound what comes before the exchange. Raises what loading and starting raise, and then the plugin
        is as it was; `InvalidStateError` unless it is running or in error, and inside a callback of its own call.
        """
        out = Out()
        value, _keep = text(b"" if config is None else _json.dumps(config))
        options, _keep_options = call_options(timeout, cancel)
        try:
            out.check(lib.flowplug_plugin_reload(self._ptr, manifest._ptr, value, options, out.error))
        finally:
            raise_interrupt()

    def stop(self, drain: float | None = None) -> None:
        """Refuses new calls, gives those in flight `drain` seconds (None: 30) to end, then ends them. Stopping twice is fine.
        A CallTimeoutError: a callback of a call has not returned; another stop waits for it."""
        out = Out()
        options, _keep = call_options(drain)
        out.check(lib.flowplug_plugin_stop(self._ptr, options, out.error))

    def _parse(self, answer: bytes, function: str) -> Any:
        try:
            return _json.loads(answer)
        except InvalidResponseError as error:
            error.plugin, error.function = self.identity, function
            raise
