"""The functions that the library calls, and how an exception becomes an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from . import _json
from ._calling import current_request, interrupted
from ._managed import decode, text, unpack
from ._native import ffi, lib
from .errors import FlowplugError, InvalidArgumentError, Status
from .hostapi import Caller, HostAPI, UseDefault
from .types import HTTPRequest, HTTPResponse, LogLevel, LogRecord

logger = logging.getLogger("flowplug")

# What the library holds a pointer to, until it says destroy.
_alive: dict[int, Any] = {}


def keep(value: object) -> Any:
    """A user_data that stands for the value until the library calls destroy."""
    handle = ffi.new_handle(value)
    _alive[int(ffi.cast("uintptr_t", handle))] = handle
    return handle


@ffi.def_extern()
def flowplug_py_destroy(user_data: Any) -> None:
    _alive.pop(int(ffi.cast("uintptr_t", user_data)), None)


class Callbacks:
    """What a host's user_data stands for."""

    def __init__(self, api: HostAPI, log: Callable[[LogRecord], None] | None, on_event: Callable[[dict[str, Any]], None] | None) -> None:
        self.api = api
        self.log = log
        self.on_event = on_event


def host_api(
    api: HostAPI | None,
    log: Callable[[LogRecord], None] | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Any:
    """The C struct: a pointer for each method that is overridden, NULL for the rest. NULL itself if nothing is."""
    api = api or HostAPI()
    names = ["get_config", "kv_get", "kv_set", "kv_delete", "http_request", "emit_event", "log"]
    own = [name for name in names if getattr(type(api), name) is not getattr(HostAPI, name)]
    if log is None and "log" in own:
        log = api.log
    if log is not None and "log" not in own:
        own.append("log")
    if on_event is not None:
        own.append("event")
    if not own:
        return ffi.NULL
    struct = ffi.new("flowplug_host_api *")
    struct.struct_size = ffi.sizeof("flowplug_host_api")
    struct.destroy = lib.flowplug_py_destroy
    for name in own:
        setattr(struct, name, getattr(lib, "flowplug_py_" + name))
    struct.user_data = keep(Callbacks(api, log, on_event))
    return struct


def _answer(user_data: Any, request: int, caller: Any, ask: Callable[[HostAPI, Caller], None]) -> None:
    """Runs one callback; `ask` gives the answer itself if all is well."""
    token = current_request.set(request)
    try:
        remaining = None if caller.remaining_ns == lib.FLOWPLUG_NO_TIMEOUT else caller.remaining_ns / 1e9
        who = Caller(decode(caller.plugin), decode(caller.function), decode(caller.traceparent), caller.tag, remaining, request)
        ask(ffi.from_handle(user_data).api, who)
    except UseDefault:
        lib.flowplug_request_default(request)
    except FlowplugError as error:
        _fail(request, Status.HOST_ERROR if type(error) is FlowplugError else error.status, str(error))
    except KeyboardInterrupt as error:
        interrupted(error)
        _fail(request, Status.CANCELLED, "The host program was interrupted.")
    except BaseException as error:
        logger.exception("a host callback failed")
        _fail(request, Status.HOST_ERROR, f"{type(error).__name__}: {error}")
    finally:
        current_request.reset(token)


def _fail(request: int, status: int, message: str) -> None:
    value, _keep = text(message.encode("utf-8", "replace"))
    lib.flowplug_request_fail(request, status, value)


def _sent(status: int) -> None:
    """An answer that the library does not take must become a failure: the plugin would wait for another. (It may be too late: fine.)"""
    if status == Status.INVALID_ARGUMENT:
        raise InvalidArgumentError("The host program's answer cannot be used: it has an impossible status, too many headers or bad text.")


def _value(request: int, value: str | bytes | None) -> None:
    if value is None:
        _sent(lib.flowplug_request_missing(request))
        return
    content, _keep = text(value)
    _sent(lib.flowplug_request_ok(request, content))


def _done(request: int) -> None:
    _sent(lib.flowplug_request_ok(request, (ffi.NULL, 0)))


@ffi.def_extern()
def flowplug_py_get_config(user_data: Any, request: int, caller: Any, key: Any) -> None:
    _answer(user_data, request, caller, lambda api, who: _value(request, api.get_config(who, decode(key))))


@ffi.def_extern()
def flowplug_py_kv_get(user_data: Any, request: int, caller: Any, key: Any) -> None:
    _answer(user_data, request, caller, lambda api, who: _value(request, api.kv_get(who, decode(key))))


@ffi.def_extern()
def flowplug_py_kv_set(user_data: Any, request: int, caller: Any, key: Any, value: Any) -> None:
    def ask(api: HostAPI, who: Caller) -> None:
        api.kv_set(who, decode(key), unpack(value))
        _done(request)

    _answer(user_data, request, caller, ask)


@ffi.def_extern()
def flowplug_py_kv_delete(user_data: Any, request: int, caller: Any, key: Any) -> None:
    def ask(api: HostAPI, who: Caller) -> None:
        api.kv_delete(who, decode(key))
        _done(request)

    _answer(user_data, request, caller, ask)


@ffi.def_extern()
def flowplug_py_emit_event(user_data: Any, request: int, caller: Any, event: Any) -> None:
    def ask(api: HostAPI, who: Caller) -> None:
        api.emit_event(who, _json.loads(unpack(event)))
        _done(request)

    _answer(user_data, request, caller, ask)


@ffi.def_extern()
def flowplug_py_http_request(user_data: Any, request: int, caller: Any, http: Any) -> None:
    def ask(api: HostAPI, who: Caller) -> None:
        headers = [(decode(http.headers[i].name), decode(http.headers[i].value)) for i in range(http.headers_len)]
        wanted = HTTPRequest(decode(http.method), decode(http.url), headers, unpack(http.body))
        _http_response(request, api.http_request(who, wanted))

    _answer(user_data, request, caller, ask)


def _http_response(request: int, response: HTTPResponse) -> None:
    headers = response.headers
    items = list(headers.items()) if isinstance(headers, dict) else list(headers)
    pairs, keep = ffi.new("flowplug_pair[]", len(items)), []
    for pair, (name, value) in zip(pairs, items):
        pair.name, name_bytes = text(name)
        pair.value, value_bytes = text(value)
        keep += [name_bytes, value_bytes]
    body, _keep = text(response.body)
    _sent(lib.flowplug_request_http(request, response.status, pairs, len(items), body))


@ffi.def_extern()
def flowplug_py_log(user_data: Any, record: Any) -> None:
    try:
        fields = {decode(record.fields[i].name): decode(record.fields[i].value) for i in range(record.fields_len)}
        level = LogLevel(min(max(record.level, LogLevel.DEBUG), LogLevel.ERROR))
        line = LogRecord(decode(record.plugin), level, decode(record.message), fields, record.tag)
        ffi.from_handle(user_data).log(line)
    except Exception:
        logger.exception("the log callback failed")


@ffi.def_extern()
def flowplug_py_event(user_data: Any, event: Any) -> None:
    try:
        ffi.from_handle(user_data).on_event(_json.loads(unpack(event)))
    except Exception:
        logger.exception("the event callback failed")
