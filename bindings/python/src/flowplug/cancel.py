"""Ends calls from outside."""

from __future__ import annotations

from ._managed import Out
from ._native import ffi, lib


class CancelToken:
    """A token that ends every call that carries it, from any thread. It stays set once it is; one token may serve many calls."""

    def __init__(self) -> None:
        out, number = Out(), ffi.new("uint64_t *")
        out.check(lib.flowplug_cancel_new(number, out.error))
        self._number = int(number[0])
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Calls in flight end with `CallCancelledError`, and so do later ones. Cancelling twice, or after close, does nothing."""
        self._cancelled = True
        lib.flowplug_cancel(self._number)

    def close(self) -> None:
        """Frees the token; calls that carry it go on. Closing twice is fine: the library knows that the number is spent."""
        lib.flowplug_cancel_free(self._number)

    def __enter__(self) -> CancelToken:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        number = getattr(self, "_number", 0)
        if number:
            lib.flowplug_cancel_free(number)
