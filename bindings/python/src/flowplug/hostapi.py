"""What plugins may ask of the program that embeds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._managed import Out, text
from ._native import lib
from .types import HTTPRequest, HTTPResponse, LogRecord


class UseDefault(Exception):
    """Raised by the methods of `HostAPI` itself: the library answers as if there were no callback."""


@dataclass(frozen=True)
class Caller:
    """The plugin that asks. function, traceparent and tag are those of the call on whose behalf it does, where that is known.

    remaining is how many seconds the answer may take (None: no bound); parent is this request's number, for calls that another
    thread makes on its behalf (`plugin.call(..., parent=caller.parent)`; on this thread it is known).
    """

    plugin: str
    function: str
    traceparent: str
    tag: int
    remaining: float | None
    parent: int

    def http_check(self, url: str) -> None:
        """May this request go to that URL? Asked for each redirect that is followed; raises `PermissionDeniedError` if not.

        Good until the request is answered.
        """
        out = Out()
        address, _keep = text(url)
        out.check(lib.flowplug_request_http_check(self.parent, address, out.error))


class HostAPI:
    """Override what this program answers itself; for the rest, and for `super()` calls, the library's own default serves.

    Methods are called from any thread, several at once: on the thread that called the plugin (wasm), or on one of the library's.
    They answer by returning, and fail by raising. Keys of the store arrive in the plugin's name space: `plugin:<identity>:<key>`.
    """

    def get_config(self, caller: Caller, key: str) -> str | None:
        """A value of the plugin's config; None if it is missing. Default: from the config that the plugin was started with."""
        raise UseDefault

    def kv_get(self, caller: Caller, key: str) -> bytes | None:
        """A stored value; None if it is missing. Default: the library's store, in memory or in the host's `kv_path`."""
        raise UseDefault

    def kv_set(self, caller: Caller, key: str, value: bytes) -> None:
        raise UseDefault

    def kv_delete(self, caller: Caller, key: str) -> None:
        """Removes a key; one that is missing is removed already."""
        raise UseDefault

    def http_request(self, caller: Caller, request: HTTPRequest) -> HTTPResponse:
        """Makes the request; `flowplug.fetch` does it with the standard library. Its URL has passed the plugin's allowlist.

        Default: the library's HTTP client, straight to the server. It checks each redirect and each address: one that is not public
        is reached only where the policy's `http_private` lists it.
        """
        raise UseDefault

    def emit_event(self, caller: Caller, event: dict[str, Any]) -> None:
        """Takes an event of the plugin. Default: it becomes an event of the library, of the type "emitted", under "data"."""
        raise UseDefault

    def log(self, record: LogRecord) -> None:
        """Takes a log record of a plugin or of the library; an exception here is lost. Default: standard error."""
