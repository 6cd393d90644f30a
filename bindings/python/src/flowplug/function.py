"""A plugin's function, resolved: the fast way to call."""

from __future__ import annotations

from typing import Any

from . import _json
from ._calling import call_options, current_request, raise_interrupt
from ._managed import Managed, to_exception, unpack
from ._native import ffi, lib
from .cancel import CancelToken

_CAPACITY = 64 * 1024


class _Scratch:
    """Where one call at a time leaves its answer; kept for the next."""

    __slots__ = ("buffer", "error", "out", "view")

    def __init__(self) -> None:
        self.buffer = ffi.new("uint8_t[]", _CAPACITY)
        self.view = ffi.buffer(self.buffer)
        self.out = ffi.new("flowplug_bytes *")
        self.error = ffi.new("flowplug_error **")


class Function(Managed):
    """Made by `Plugin.function`; good until it or the plugin is closed. Any number of threads may call it at once."""

    def __init__(self, plugin: str, name: str, handle: Any) -> None:
        self._own(handle, lib.flowplug_function_free)
        self.plugin = plugin
        self.name = name
        # As many as there were ever calls at once; append and pop of a list need no lock.
        self._free: list[_Scratch] = []
        # For the usual call, which sets nothing: never written again.
        self._trusting, _ = call_options(parent=0, trust=True)
        self._checking, _ = call_options(parent=0)

    def __call__(
        self,
        params: Any = None,
        *,
        timeout: float | None = None,
        cancel: CancelToken | None = None,
        tag: int = 0,
        traceparent: str | None = None,
        parent: int | None = None,
    ) -> Any:
        """As `Plugin.call`."""
        options = keep = None
        parent = current_request.get() if parent is None else parent
        if timeout is not None or cancel is not None or tag or traceparent or parent:
            options, keep = call_options(timeout, cancel, tag, traceparent, parent, trust=True)
        answer = self._call(_json.dumps(params), options or self._trusting)
        del keep
        return _json.loads(answer, self.plugin, self.name)

    def raw(self, params: bytes = b"", *, timeout: float | None = None, cancel: CancelToken | None = None) -> bytes:
        """JSON text in, JSON text out, checked by the library: for those who hand it on."""
        options, keep = (self._checking, None)
        if timeout is not None or cancel is not None or current_request.get():
            options, keep = call_options(timeout, cancel)
        answer = self._call(params, options)
        del keep
        return answer

    def _call(self, params: bytes, options: Any) -> bytes:
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = _Scratch()
        out, error = scratch.out, scratch.error
        status = lib.flowplug_py_call(self._ptr, params, len(params), options, scratch.buffer, _CAPACITY, out, error)
        try:
            if status:
                failure, error[0] = error[0], ffi.NULL
                raise to_exception(status, failure)
            answer: bytes = scratch.view[: out.len] if out.ptr == scratch.buffer else unpack(out)
            # Frees an answer that did not fit; leaves ours alone.
            lib.flowplug_bytes_free(out)
        finally:
            self._free.append(scratch)
            raise_interrupt()
        return answer
