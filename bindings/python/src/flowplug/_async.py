"""A call whose answer an event loop waits for."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ._callbacks import keep
from ._managed import take_bytes, to_exception
from ._native import ffi, lib


class Completion:
    """The future of a call, and the C struct that announces its end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bytes] = self._loop.create_future()

    def struct(self) -> Any:
        """For one call; the library lets go of it by destroy, also where the call is refused."""
        struct = ffi.new("flowplug_completion *")
        struct.struct_size = ffi.sizeof("flowplug_completion")
        struct.user_data = keep(self)
        struct.done = lib.flowplug_py_done
        struct.destroy = lib.flowplug_py_destroy
        return struct

    def done(self, result: bytes | Exception) -> None:
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, result)

    def _settle(self, result: bytes | Exception) -> None:
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


@ffi.def_extern()
def flowplug_py_done(user_data: Any, status: int, result: Any, error: Any) -> None:
    # Content and error are ours whether or not anybody still waits.
    ffi.from_handle(user_data).done(to_exception(status, error) if status else take_bytes(result))
