"""Makes a plugin's HTTP request with the standard library, within what the plugin is allowed."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from .errors import CallTimeoutError, IoError
from .hostapi import Caller
from .types import HTTPRequest, HTTPResponse

# Secrets of one site, which a redirect must not carry to another.
_SECRETS = ("Authorization", "Cookie", "Proxy-authorization")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Asks the library before each hop."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self._caller.http_check(newurl)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            for name in _SECRETS:
                request.remove_header(name)
        return request


def fetch(caller: Caller, request: HTTPRequest, max_body: int = 10 * 1024 * 1024) -> HTTPResponse:
    """For `HostAPI.http_request`: every redirect is checked against the plugin's allowlist, no proxy of the environment is used,
    the answer has `max_body` bytes at most, and the connection's waits are bounded by what is left of the call.

    Any status is an answer. Raises `PermissionDeniedError`, `CallTimeoutError` and `IoError`.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(caller),
    ):
        opener.add_handler(handler)
    body = request.body if request.body or request.method in ("POST", "PUT", "PATCH") else None
    outgoing = urllib.request.Request(request.url, data=body, method=request.method)
    for name, value in request.headers:
        outgoing.add_header(name, value)
    try:
        try:
            response: Any = opener.open(outgoing, timeout=caller.remaining)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            content = response.read(max_body + 1)
    except TimeoutError as error:
        raise CallTimeoutError(f"{request.url} did not answer in time.") from error
    except (OSError, ValueError) as error:
        raise IoError(f"{request.method} {request.url} failed: {error}.") from error
    if len(content) > max_body:
        raise IoError(f"The answer of {request.url} is longer than {max_body} bytes.")
    return HTTPResponse(response.status, response.headers.items(), content)
