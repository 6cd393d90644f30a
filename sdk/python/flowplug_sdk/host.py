"""The plugin's way to the host: `HostService` at the address and with the token that the host put into the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from .pb import flowbot_plugin_pb2 as pb
from .pb import flowbot_plugin_pb2_grpc as pb_grpc

MESSAGE_MAX = 64 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", MESSAGE_MAX), ("grpc.max_send_message_length", MESSAGE_MAX)]


class HostError(Exception):
    """The host refused or failed; the text is the host's own."""


@dataclass(frozen=True)
class HTTPResponse:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class HostConnection:
    """One channel to the host for the whole process."""

    def __init__(self, address: str, token: str) -> None:
        self.token = token
        self._channel = grpc.insecure_channel(address, options=[*OPTIONS, ("grpc.default_authority", "localhost")])
        self.stub = pb_grpc.HostServiceStub(self._channel)

    @classmethod
    def from_environment(cls) -> HostConnection | None:
        """None where the host offers no direct address (flowbot's own host does not)."""
        address = os.environ.get("FLOWBOT_HOST_ADDRESS")
        return cls(address, os.environ.get("FLOWBOT_HOST_TOKEN", "")) if address else None

    def close(self) -> None:
        self._channel.close()


class HostClient:
    """The host, as one call of the plugin sees it. Methods raise `HostError`."""

    def __init__(self, connection: HostConnection | None, context: grpc.ServicerContext) -> None:
        self._connection = connection
        self._context = context
        metadata: list[tuple[str, str | bytes]] = [("authorization", f"Bearer {connection.token}")] if connection else []
        # The id that lets the host know for which of its calls the plugin asks.
        metadata += [(k, v) for k, v in context.invocation_metadata() if k == "flowplug-call"]
        self._metadata = tuple(metadata)

    def remaining(self) -> float | None:
        """Seconds until the call at hand must be over; None if it has no deadline."""
        left = self._context.time_remaining()
        # grpcio says "no deadline" as None or as a time beyond any clock.
        return None if left is None or left > 10**9 else left

    def get_config(self, key: str) -> str:
        """A value of the plugin's own config: a string as it is, any other as JSON text, "" if it is missing."""
        return str(self._ask("GetConfig", pb.GetConfigRequest(key=key)).value)

    def log(self, level: str, message: str, fields: Mapping[str, str] | None = None) -> None:
        """`level` is debug, info, warn or error."""
        self._ask("Log", pb.LogRequest(level=level, message=message, fields=dict(fields or {})))

    def kv_get(self, key: str) -> bytes | None:
        """None is a missing key, b"" an empty value."""
        reply = self._ask("KVGet", pb.KVGetRequest(key=key))
        return None if reply.missing else bytes(reply.value)

    def kv_set(self, key: str, value: bytes) -> None:
        self._ask("KVSet", pb.KVSetRequest(key=key, value=value))

    def kv_delete(self, key: str) -> None:
        self._ask("KVDelete", pb.KVDeleteRequest(key=key))

    def http(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> HTTPResponse:
        """A request that the host makes, if the manifest asks for the URL's host and the operator grants it."""
        request = pb.HTTPCallRequest(method=method, url=url, headers=dict(headers or {}), body=body)
        reply = self._ask("HTTPRequest", request)
        return HTTPResponse(reply.status, dict(reply.headers), bytes(reply.body))

    def emit_event(self, source: str, event_type: str, payload: Mapping[str, Any]) -> None:
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        self._ask("EmitEvent", pb.EmitEventRequest(source=source, event_type=event_type, payload=text))

    def _ask(self, method: str, request: Any) -> Any:
        if self._connection is None:
            raise HostError("The host gave no FLOWBOT_HOST_ADDRESS, so its services cannot be reached.")
        call: Callable[..., Any] = getattr(self._connection.stub, method)
        try:
            reply = call(request, timeout=self.remaining(), metadata=self._metadata)
        except grpc.RpcError as error:
            raise HostError(error.details() or str(error.code())) from error
        if getattr(reply, "error", ""):
            raise HostError(reply.error)
        return reply
