"""One plugin's life, and every way in which a call can end, for both runtimes."""

import base64
import contextlib
import json
import threading

import pytest
from conftest import BOUND, FIXTURES, do, endless, folder, load, start

import flowplug


def test_a_whole_life(host, name):
    plugin = load(host, name, "org/fixture")
    assert plugin.state is flowplug.State.LOADING
    info = plugin.info()
    assert (info["identity"], info["name"], info["runtime"]) == ("org/fixture", "fixture", "wasm" if name == FIXTURES["wasm"] else "grpc")
    plugin.start({"any": "config"})
    assert plugin.state is flowplug.State.RUNNING
    health = plugin.health()
    assert health["ready"] and health["uptime_ns"] > 0 and health["last_error"] == ""
    content = {"do": "echo", "text": 'ä€😀 "quoted"\n', "list": [1, 2.5, None, True, {}]}
    assert plugin.call("command", {"context": {}, "content": content}) == content
    plugin.stop()
    plugin.stop()
    assert plugin.state is flowplug.State.STOPPED
    assert plugin.health()["ready"] is False
    with pytest.raises(flowplug.InvalidStateError):
        plugin.call("command", do("echo"))
    plugin.close()
    with pytest.raises(flowplug.InvalidStateError, match="This Plugin is closed"):
        plugin.call("command", do("echo"))


def test_not_before_start_and_not_twice(host, name):
    with load(host, name) as plugin:
        with pytest.raises(flowplug.InvalidStateError, match="loading"):
            plugin.call("command", do("echo"))
        plugin.start()
        with pytest.raises(flowplug.InvalidStateError, match="running"):
            plugin.start()


def test_a_plugin_may_refuse_to_start(host, name):
    with load(host, name) as plugin, pytest.raises(flowplug.StartFailedError) as failure:
        plugin.start({"fail": "I will not"})
    assert failure.value.plugin_message == "I will not"
    assert failure.value.plugin == name


def test_a_config_that_breaks_the_schema_can_be_corrected(host):
    with load(host, "bookmark-wasm-c") as plugin:
        with pytest.raises(flowplug.InvalidConfigError) as failure:
            plugin.start({"user_agent": "", "more": 1})
        assert len(failure.value.details["violations"]) == 2
        assert plugin.state is flowplug.State.LOADING
        plugin.start({"user_agent": "test"})


def test_a_plugins_own_error(plugin, name):
    with pytest.raises(flowplug.PluginError) as failure:
        plugin.call("command", do("error", text="out of coffee"))
    error = failure.value
    assert error.plugin_message == "out of coffee"
    assert (error.status, error.plugin, error.function) == (flowplug.Status.PLUGIN_ERROR, name, "command")
    assert plugin.call("command", do("echo")) == {"do": "echo"}


def test_unknown_functions(plugin):
    with pytest.raises(flowplug.UnknownFunctionError):
        plugin.call("no_such_function")
    with pytest.raises(flowplug.UnknownFunctionError):
        plugin.function("no_such_function")


def test_what_the_manifest_does_not_provide(host):
    with start(host, "bookmark-wasm-c", {"user_agent": "test"}) as plugin:
        with pytest.raises(flowplug.NotFoundError):
            plugin.call("webhook_convert", {"payload": base64.b64encode(b"x").decode()})
        with pytest.raises(flowplug.NotFoundError, match="forget"):
            plugin.call("ability_call", {"operation": "forget", "params": {}})


def test_bad_params_never_leave_python(plugin):
    with pytest.raises(TypeError):
        plugin.call("command", {"content": object()})
    with pytest.raises(ValueError):
        plugin.call("command", float("nan"))
    with pytest.raises(ValueError):
        plugin.call("command", do("echo"), timeout=-1)


def test_bytes_are_json_text(plugin):
    assert plugin.call("command", b'{"context": {}, "content": {"do": "echo", "n": 7}}') == {"do": "echo", "n": 7}


def test_a_trap_says_where(wasm):
    with pytest.raises(flowplug.TrapError) as failure:
        wasm.call("command", do("panic"))
    assert any("fixture_panics_here" in str(frame) for frame in failure.value.details["backtrace"])
    assert wasm.call("command", do("echo")) == {"do": "echo"}


@pytest.mark.parametrize("what", [do("spin"), do("sleep", ms=300_000)], ids=["spin", "sleep"])
def test_a_deadline_ends_what_would_not_end(plugin, what):
    with pytest.raises(flowplug.CallTimeoutError) as failure:
        plugin.call("command", what, timeout=0.2)
    assert isinstance(failure.value, TimeoutError)
    assert plugin.call("command", do("echo"), timeout=BOUND) == {"do": "echo"}


def test_a_token_ends_calls_now_and_later(plugin, api, name):
    with flowplug.CancelToken() as token:
        other = threading.Thread(target=lambda: api.inside.wait(BOUND) and token.cancel())
        other.start()
        with pytest.raises(flowplug.CallCancelledError):
            plugin.call("command", endless(name), cancel=token, timeout=2 * BOUND)
        api.over.set()
        other.join()
        assert api.inside.is_set() and token.cancelled
        with pytest.raises(flowplug.CallCancelledError):
            plugin.call("command", do("echo"), cancel=token)
    token.close()
    token.cancel()
    assert plugin.call("command", do("echo")) == {"do": "echo"}


def test_a_resolved_function(plugin):
    command = plugin.function("command")
    for n in range(100):
        assert command(do("echo", n=n)) == {"do": "echo", "n": n}
    # Larger than the buffer that it keeps, then small again.
    assert len(command(do("big", bytes=200_002))) == 200_000
    assert json.loads(command.raw(b'{"content": {"do": "echo"}}')) == {"do": "echo"}
    with pytest.raises(flowplug.PluginError) as failure:
        command(do("error", text="no"))
    assert failure.value.plugin_message == "no"
    with pytest.raises(flowplug.CallTimeoutError):
        command(do("spin"), timeout=0.1)
    assert command(do("echo")) == {"do": "echo"}
    command.close()
    with pytest.raises(flowplug.InvalidStateError):
        command()


def test_reload_keeps_the_plugin_and_its_functions(host):
    manifests = {kind: flowplug.Manifest.read(folder(f"fixture-{kind}-go")) for kind in FIXTURES}
    plugin = load(host, "fixture-wasm-go", "org/lives")
    with pytest.raises(flowplug.InvalidStateError, match="loading"):
        plugin.reload(manifests["grpc"])
    plugin.start({"n": 1})
    command = plugin.function("command")
    for kind in ("grpc", "wasm"):
        plugin.reload(manifests[kind], {"of": kind})
        assert plugin.info()["runtime"] == kind
        assert command(do("config")) == {"of": kind} == plugin.call("command", do("config"))
        plugin.reload(manifests[kind])
        assert command(do("config")) == {"of": kind}, "no config: as before"
    with pytest.raises(flowplug.StartFailedError, match="was not reloaded") as failure:
        plugin.reload(manifests["wasm"], {"fail": "I will not"})
    assert failure.value.plugin_message == "I will not"
    assert command(do("config")) == {"of": "wasm"}
    plugin.close()


def test_a_process_that_dies_is_unavailable(grpc):
    with pytest.raises(flowplug.UnavailableError) as failure:
        grpc.call("command", do("crash"))
    assert failure.value.details["exit_status"] == 3
    assert any("told to crash" in line for line in failure.value.details["stderr"])


def test_an_exception_in_a_python_plugin_is_its_error_and_its_trace_is_logged(grpc, api):
    with pytest.raises(flowplug.PluginError) as failure:
        grpc.call("command", do("panic", text="oh"))
    assert failure.value.plugin_message == "RuntimeError: oh"
    api.wait_for_log(lambda record: "in do_panic" in record.message)


def test_the_policy_decides_what_is_loaded(make_host):
    host = make_host(policy="strict")
    with pytest.raises(flowplug.PermissionDeniedError) as failure:
        load(host, FIXTURES["grpc"])
    assert "runtime" in str(failure.value)
    # An override for one plugin.
    load(host, FIXTURES["grpc"], policy="trusted").close()


@pytest.mark.parametrize("config", [{"policy": "lax"}, {"callbacks": "sideways"}])
def test_a_host_refuses_bad_options(config):
    with pytest.raises(flowplug.InvalidConfigError):
        flowplug.Host(**config)


def test_a_missing_artifact(host, tmp_path):
    text = (folder(FIXTURES["wasm"]) / "plugin.yaml").read_text()
    with flowplug.Manifest.parse(text, base_dir=tmp_path) as manifest, pytest.raises(flowplug.LoadFailedError, match=r"plugin\.wasm"):
        host.load(manifest, "absent")


def test_after_close_of_the_host_everything_is_invalid(make_host, name):
    host = make_host()
    plugin = start(host, name)
    command = plugin.function("command")
    host.close()
    host.close()
    for call in (lambda: plugin.call("command", do("echo")), lambda: command(do("echo")), lambda: load(host, name)):
        with pytest.raises(flowplug.InvalidStateError):
            call()


def test_close_ends_calls_in_flight(host, api, name):
    plugin = start(host, name)
    ended: list[object] = []

    def call():
        try:
            ended.append(plugin.call("command", endless(name)))
        except flowplug.FlowplugError as error:
            ended.append(error.status)
        api.over.set()

    caller = threading.Thread(target=call)
    caller.start()
    assert api.inside.wait(BOUND)
    with contextlib.suppress(flowplug.CallTimeoutError):  # the callback may need a moment more
        host.close(timeout=0.1)
    caller.join(BOUND)
    host.close()
    assert ended == [flowplug.Status.CANCELLED]
