"""A manager: folders of plugins that are run, called, edited and stopped."""

import os
import queue
import shutil

import pytest
from conftest import BOUND, FIXTURES, ask, do, folder

import flowplug


class Told(queue.Queue):
    def wait_for(self, kind: str, plugin: str) -> dict:
        while True:
            event = self.get(timeout=BOUND)
            if (event["type"], event["plugin"]) == (kind, plugin):
                return event


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def host(make_host, told) -> flowplug.Host:
    return make_host(on_event=told.put)


def put(plugins, identity: str) -> None:
    (plugins / identity).mkdir(exist_ok=True)
    for file in ("plugin.wasm", "plugin.yaml"):
        shutil.copyfile(folder(FIXTURES["wasm"]) / file, plugins / identity / file)


def test_a_folder_is_run_and_followed(host, told, tmp_path):
    put(tmp_path, "a")
    sources = [{"type": "local", "path": os.fspath(tmp_path)}]
    with flowplug.Manager(host, {"enabled": True, "sources": sources, "config": {"a": {"colour": "blue"}}}) as manager:
        manager.start()
        assert manager.call("a", "command", ask("get_config", key="colour")) == {"value": "blue"}
        plugin = manager.get("a")
        put(tmp_path, "b")
        told.wait_for("started", "b")
        put(tmp_path, "a")
        assert told.wait_for("reloaded", "a")["provides_changed"] is False
        (tmp_path / "a" / "plugin.yaml").write_text("name: [")
        assert "line 1" in told.wait_for("reload_failed", "a")["cause"]
        assert plugin.call("command", do("echo", n=1)) == {"do": "echo", "n": 1}
        shutil.rmtree(tmp_path / "b")
        told.wait_for("unloaded", "b")
        with pytest.raises(flowplug.NotFoundError):
            manager.get("b")
        (row,) = manager.list()
        assert (row["identity"], row["state"], row["manifest"]["name"]) == ("a", "running", "fixture")
        assert manager.health("a")["ready"]
        assert 'flowplug_calls_total{plugin="a"}' in manager.metrics()
        plugin.close()
        assert manager.get("a").state is flowplug.State.RUNNING
    told.wait_for("stopped", "a")
    assert manager.closed


def test_plugins_are_loaded_reloaded_and_unloaded_by_hand(host):
    with flowplug.Manager(host) as manager:
        identity = manager.load(folder(FIXTURES["wasm"]), {"n": 1})
        assert identity == FIXTURES["wasm"]
        with pytest.raises(flowplug.InvalidStateError, match="there already"):
            manager.load(folder(FIXTURES["wasm"]))
        manager.reload(identity)
        assert manager.call(identity, "command", ask("get_config", key="n")) == {"value": "1"}
        with flowplug.Manifest.read(folder(FIXTURES["wasm"])) as manifest:
            manager.reload(identity, manifest, {"n": 2})
        assert manager.call(identity, "command", ask("get_config", key="n"), timeout=BOUND) == {"value": "2"}
        plugin = manager.get(identity)
        manager.unload(identity, drain=1)
        assert plugin.state is flowplug.State.STOPPED
        with pytest.raises(flowplug.NotFoundError):
            manager.unload(identity)


def test_failures_are_raised_or_in_the_list(host, tmp_path):
    with pytest.raises(flowplug.InvalidConfigError) as wrong:
        flowplug.Manager(host, "sources: [{type: npm}]")
    assert wrong.value.details["problems"][0]["field"] == "sources[0].type"
    put(tmp_path, "good")
    put(tmp_path, "bad")
    (tmp_path / "bad" / "plugin.wasm").write_text("no module")
    text = f"enabled: true\nsources: [{{type: git, repos: [{{url: u}}]}}, {{type: local, path: {tmp_path}}}]"
    manager = flowplug.Manager(host, text)
    with pytest.raises(flowplug.UnsupportedError, match="1 of 2 sources"):
        manager.start()
    assert [(row["identity"], row["state"]) for row in manager.list()] == [("bad", "error"), ("good", "running")]
    assert manager.health("bad")["state"] == "error"
    with pytest.raises(flowplug.InvalidStateError, match="could not be loaded"):
        manager.call("bad", "command")
    manager.stop()
    manager.stop()
    with pytest.raises(flowplug.InvalidStateError, match="stopped"):
        manager.list()
    manager.close()
    with pytest.raises(flowplug.InvalidStateError, match="This Manager is closed"):
        manager.list()
