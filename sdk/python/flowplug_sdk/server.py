"""The process's side of the handshake and the services behind it."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .host import OPTIONS, HostClient, HostConnection, HostError
from .module import Module, PluginError
from .pb import flowbot_plugin_pb2 as pb
from .pb import flowbot_plugin_pb2_grpc as pb_grpc
from .pb import go_plugin_pb2, go_plugin_pb2_grpc
from .tls import server_credentials

COOKIE = ("FLOWBOT_PLUGIN", "flowbot-plugin-v1")
SOCKET_PATH_MAX = 107
# How long calls in flight may go on once the host has asked for the end, and how long their last replies may take.
DRAIN_SECONDS = 5.0
REPLY_SECONDS = 0.1


def serve(module: Module, workers: int = 16) -> None:
    """Serves the module until the host asks the process to end. Call it last in the plugin's main program.

    `workers` calls run at once; more wait. Exits with status 1 where no host started the process.
    """
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit("This program is a plugin: a host starts it, people do not. Load its folder from a flowplug or flowbot host.")
    server = grpc.server(futures.ThreadPoolExecutor(workers), options=OPTIONS)
    ended = threading.Event()
    connection = HostConnection.from_environment()
    plugin = _Plugin(module, connection)
    pb_grpc.add_PluginServiceServicer_to_server(plugin, server)
    go_plugin_pb2_grpc.add_GRPCControllerServicer_to_server(_Controller(ended), server)
    status = health.HealthServicer()
    status.set("plugin", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    path = _socket_path()
    certificate = ""
    if host_certificate := os.environ.get("PLUGIN_CLIENT_CERT"):
        credentials, certificate = server_credentials(host_certificate)
        server.add_secure_port(f"unix:{path}", credentials)
    else:
        server.add_insecure_port(f"unix:{path}")
    server.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(f"1|1|unix|{path}|grpc|{certificate}", flush=True)
    ended.wait()
    plugin.calls.wait(DRAIN_SECONDS)
    # With a longer grace grpcio would wait for the host to hang up, and a host hangs up when the process has ended.
    server.stop(REPLY_SECONDS).wait()
    if connection:
        connection.close()


def _socket_path() -> str:
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp(prefix="plugin-")
    path = os.path.join(folder, f"plugin-{os.getpid()}.sock")
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        sys.exit(f"The socket path {path} is longer than {SOCKET_PATH_MAX} bytes; the host must give a shorter folder.")
    return path


def _parse(text: str) -> Any:
    """A JSON field; the empty text is null. What is no JSON is taken as the string it is: flowbot sends plain text as content."""
    if not text:
        return None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _message(error: Exception) -> str:
    if isinstance(error, (PluginError, HostError)):
        return str(error)
    # Not an answer but a fault: its trace belongs into the host's log, which reads our standard error.
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


class _Calls:
    """Counts the calls in flight: a `with` for each."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        """Returns when there are none, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, timeout)


class _Plugin(pb_grpc.PluginServiceServicer):
    """Between messages and `Module`. Errors go into the response's error field, or a status where it has none."""

    def __init__(self, module: Module, connection: HostConnection | None) -> None:
        self.calls = _Calls()
        self._module = module
        self._connection = connection

    def _answer(self, reply: type, name: str, context: Any, method: Callable[..., Any], *args: Any) -> Any:
        try:
            with self.calls:
                return reply(**{name: _text(method(HostClient(self._connection, context), *args))})
        except Exception as error:
            return reply(error=_message(error) or type(error).__name__)

    def _run(self, context: Any, method: Callable[..., Any], *args: Any) -> None:
        try:
            with self.calls:
                method(HostClient(self._connection, context), *args)
        except Exception as error:
            _abort(context, error)

    def Init(self, request: Any, context: Any) -> Any:
        self._run(context, self._module.init, _parse(request.config))
        return pb.InitResponse()

    def Bootstrap(self, request: Any, context: Any) -> Any:
        self._run(context, self._module.bootstrap)
        return request

    def IsReady(self, request: Any, context: Any) -> Any:
        try:
            return pb.IsReadyResponse(ready=self._module.is_ready())
        except Exception as error:
            _abort(context, error)

    def Command(self, request: Any, context: Any) -> Any:
        args = (_parse(request.context), _parse(request.content))
        return self._answer(pb.CommandResponse, "payload", context, self._module.command, *args)

    def Form(self, request: Any, context: Any) -> Any:
        args = (_parse(request.context), dict(request.values))
        return self._answer(pb.FormResponse, "payload", context, self._module.form, *args)

    def Rules(self, request: Any, context: Any) -> Any:
        return self._answer(pb.RulesResponse, "rules", context, self._module.rules)

    def Help(self, request: Any, context: Any) -> Any:
        return self._answer(pb.HelpResponse, "help", context, self._module.help)

    def AbilityCall(self, request: Any, context: Any) -> Any:
        args = (request.operation, _parse(request.params))
        return self._answer(pb.CallResponse, "result", context, self._module.ability_call, *args)

    def WebhookConvert(self, request: Any, context: Any) -> Any:
        return self._answer(pb.CallResponse, "result", context, self._module.webhook_convert, request.payload)

    def OAuthCallback(self, request: Any, context: Any) -> Any:
        return self._answer(pb.CallResponse, "result", context, self._module.oauth_callback, request.state, request.code)


def _abort(context: Any, error: Exception) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, _message(error) or type(error).__name__)
    raise AssertionError("abort raises")


class _Controller(go_plugin_pb2_grpc.GRPCControllerServicer):
    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def Shutdown(self, request: Any, context: Any) -> Any:
        self._ended.set()
        return go_plugin_pb2.Empty()
