"""What everything that stands on a handle of the library shares."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from . import _json
from ._native import ffi, lib
from .errors import BY_STATUS, FlowplugError, InternalError, InvalidStateError

Self = TypeVar("Self", bound="Managed")
str_ = lib.flowplug_py_str


class Managed:
    """An object of the library.

    The handle is freed when the last user lets go of it: `close` drops this object's own reference, and a call that another
    thread is in the middle of keeps its own until it returns.
    """

    _handle: Any = None

    def _own(self, handle: Any, free: Any) -> None:
        self._handle = ffi.gc(handle, free)

    @property
    def _ptr(self) -> Any:
        handle = self._handle
        if handle is None:
            raise InvalidStateError(f"This {type(self).__name__} is closed.")
        return handle

    @property
    def closed(self) -> bool:
        return self._handle is None

    def close(self) -> None:
        """Ends it. Never waits; closing twice is fine."""
        self._handle = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def text(value: str | bytes) -> tuple[Any, bytes]:
    """A flowplug_str, and the bytes that it points into and that must outlive it."""
    data = value.encode() if isinstance(value, str) else bytes(memoryview(value))
    return str_(data, len(data)), data


def nanoseconds(timeout: float | None) -> int:
    """Seconds as the library counts them: None is the default, infinity is no bound of the caller's."""
    if timeout is None:
        return 0
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"a timeout is a number of seconds, not {timeout}")
    # 0 means the default to the library; here it is "at once". What lasts longer than the number holds has no bound.
    nanos = timeout * 1e9
    return max(1, int(nanos)) if nanos < 2**63 else int(lib.FLOWPLUG_NO_TIMEOUT)


def unpack(value: Any) -> bytes:
    """The content of a flowplug_str or flowplug_bytes."""
    return bytes(ffi.buffer(value.ptr, value.len)) if value.len else b""


def decode(value: Any) -> str:
    return unpack(value).decode("utf-8", "replace")


def take_bytes(out: Any) -> bytes:
    """The content of a flowplug_bytes (given as a pointer), which is freed."""
    try:
        return unpack(out)
    finally:
        lib.flowplug_bytes_free(out)


def to_exception(status: int, error: Any) -> FlowplugError:
    """The library's error as an exception; the error is freed."""
    cls = BY_STATUS.get(status, InternalError)
    if not error:
        return cls(f"The library answered {ffi.string(lib.flowplug_status_name(status)).decode()} without a word.")
    try:
        details = unpack(lib.flowplug_error_details(error))
        return cls(
            decode(lib.flowplug_error_message(error)),
            plugin=decode(lib.flowplug_error_plugin(error)),
            function=decode(lib.flowplug_error_function(error)),
            plugin_message=decode(lib.flowplug_error_plugin_message(error)),
            details=_json.loads(details) if details else None,
        )
    finally:
        lib.flowplug_error_free(error)


class Out:
    """The places for an answer: `check(lib.f(..., out.error))` raises what went wrong."""

    def __init__(self) -> None:
        self.error = ffi.new("flowplug_error **")

    def check(self, status: int) -> None:
        if status:
            raise to_exception(status, self.error[0])


def ask_bytes(function: Any, *args: Any) -> bytes:
    """Calls a function of the library whose last outputs are bytes and an error."""
    out, result = Out(), ffi.new("flowplug_bytes *")
    out.check(function(*args, result, out.error))
    return take_bytes(result)
