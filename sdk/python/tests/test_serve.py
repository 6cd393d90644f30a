"""A plugin on the SDK as a host sees it: a process, a handshake line, services. The host here is grpcio itself."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

SDK = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SDK))

from flowplug_sdk.pb import flowbot_plugin_pb2 as pb  # noqa: E402
from flowplug_sdk.pb import flowbot_plugin_pb2_grpc as pb_grpc  # noqa: E402
from flowplug_sdk.pb import go_plugin_pb2, go_plugin_pb2_grpc  # noqa: E402

PLUGIN = textwrap.dedent("""
    from flowplug_sdk import Module, PluginError, serve

    class Plugin(Module):
        def init(self, host, config):
            if config == {"refuse": True}:
                raise PluginError("not today")

        def command(self, host, context, content):
            if content == "config":
                return {"value": host.get_config("key"), "missing": host.kv_get("none") is None, "empty": host.kv_get("empty") == b""}
            if content == "denied":
                host.kv_set("key", b"value")
            if content == "fault":
                raise KeyError("oh")
            return {"context": context, "content": content}

    serve(Plugin())
""")


class Host(pb_grpc.HostServiceServicer):
    def __init__(self):
        self.metadata = []

    def GetConfig(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        return pb.GetConfigResponse(value=f"the {request.key}")

    def KVGet(self, request, context):
        return pb.KVGetResponse(missing=request.key == "none")

    def KVSet(self, request, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "the store is full")


@pytest.fixture
def host(tmp_path):
    service, server = Host(), grpc.server(futures.ThreadPoolExecutor(2))
    pb_grpc.add_HostServiceServicer_to_server(service, server)
    service.address = f"unix:{tmp_path}/host.sock"
    server.add_insecure_port(service.address)
    server.start()
    yield service
    server.stop(0).wait()


def environment(tmp_path, host):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SDK),
        "FLOWBOT_PLUGIN": "flowbot-plugin-v1",
        "PLUGIN_UNIX_SOCKET_DIR": str(tmp_path),
        "FLOWBOT_HOST_ADDRESS": host.address,
        "FLOWBOT_HOST_TOKEN": "secret",
    }


@pytest.fixture
def plugin(tmp_path, host):
    env = environment(tmp_path, host)
    with subprocess.Popen([sys.executable, "plugin.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith(f"1|1|unix|{tmp_path}/") and line.endswith("|grpc|\n"), line
        with grpc.insecure_channel(f"unix:{line.split('|')[3]}") as channel:
            process.channel, process.stub = channel, pb_grpc.PluginServiceStub(channel)
            yield process
        process.kill()


def command(plugin, content, context="{}"):
    return plugin.stub.Command(
        pb.CommandRequest(context=context, content=content), timeout=20, metadata=[("flowplug-call", "42")], wait_for_ready=True
    )


def test_json_text_goes_in_and_out_and_plain_text_is_a_string(plugin):
    assert json.loads(command(plugin, '{"a":[1,null]}', '{"who":"me"}').payload) == {"context": {"who": "me"}, "content": {"a": [1, None]}}
    assert json.loads(command(plugin, "bonjour", "").payload) == {"context": None, "content": "bonjour"}


def test_the_host_is_asked_with_the_token_and_the_call_id(plugin, host):
    assert json.loads(command(plugin, "config").payload) == {"value": "the key", "missing": True, "empty": True}
    assert host.metadata[0]["authorization"] == "Bearer secret"
    assert host.metadata[0]["flowplug-call"] == "42"


def test_a_refusal_of_the_host_is_the_plugins_error(plugin):
    assert command(plugin, "denied").error == "the store is full"


def test_an_unexpected_exception_is_an_error_with_its_type(plugin):
    assert command(plugin, "fault").error == "KeyError: 'oh'"


def test_init_fails_with_the_plugins_words(plugin):
    plugin.stub.Init(pb.InitRequest(config='{"a":1}'), timeout=20, wait_for_ready=True)
    with pytest.raises(grpc.RpcError) as failure:
        plugin.stub.Init(pb.InitRequest(config='{"refuse":true}'), timeout=20)
    assert failure.value.details() == "not today"


def test_health_and_shutdown(plugin):
    stub = health_pb2_grpc.HealthStub(plugin.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service="plugin"), timeout=20, wait_for_ready=True)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    go_plugin_pb2_grpc.GRPCControllerStub(plugin.channel).Shutdown(go_plugin_pb2.Empty(), timeout=20)
    assert plugin.wait(timeout=60) == 0


def test_without_a_host_it_says_what_it_is(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    run = subprocess.run(
        [sys.executable, "plugin.py"], cwd=tmp_path, env={"PYTHONPATH": str(SDK)}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "This program is a plugin" in run.stderr
