"""What accompanies a call into a plugin."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from ._managed import nanoseconds, text
from ._native import ffi, lib
from .cancel import CancelToken

# The host request that this code answers; 0 outside of callbacks. A call made meanwhile is made on its behalf.
current_request: ContextVar[int] = ContextVar("flowplug_request", default=0)

# Ctrl-C that came while a callback ran below a call of the main thread: raised when that call is back.
_interrupts: list[BaseException] = []

_SIZE = ffi.sizeof("flowplug_call_options")
_TRUST = int(lib.FLOWPLUG_CALL_TRUST_JSON)


def call_options(
    timeout: float | None = None,
    cancel: CancelToken | None = None,
    tag: int = 0,
    traceparent: str | None = None,
    parent: int | None = None,
    trust: bool = False,
) -> tuple[Any, Any]:
    """The options, and what must live as long as they do."""
    options = ffi.new("flowplug_call_options *")
    options.struct_size = _SIZE
    options.timeout_ns = nanoseconds(timeout)
    options.cancel = cancel._number if cancel is not None else 0
    options.parent = current_request.get() if parent is None else parent
    options.tag = tag
    options.flags = _TRUST if trust else 0
    keep = None
    if traceparent:
        options.traceparent, keep = text(traceparent)
    return options, keep


def interrupted(error: BaseException) -> None:
    _interrupts.append(error)


def raise_interrupt() -> None:
    """To be called when a call is back, whatever became of it."""
    if _interrupts and threading.current_thread() is threading.main_thread():
        raise _interrupts.pop()
