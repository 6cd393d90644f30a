"""Nothing is left behind: handles, files, threads, memory."""

import gc
import os
import time
from pathlib import Path

import pytest
from conftest import BOUND, FIXTURES, ask, do, load, start

import flowplug
from flowplug import _callbacks

LOADS = 1000


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def settles(count, bound: int) -> bool:
    """Freeing never waits: the library takes things down on threads of its own, so the count may take a moment to get there."""
    until = time.monotonic() + BOUND
    while count() > bound and time.monotonic() < until:
        time.sleep(0.01)
    return count() <= bound


def resident_kib() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def test_a_thousand_loads(make_host, tmp_path):
    host = make_host(cache_dir=tmp_path)

    def once():
        with load(host, FIXTURES["wasm"]) as plugin:
            plugin.start()
            assert plugin.function("command")(do("echo")) == {"do": "echo"}

    for _ in range(LOADS // 4):
        once()
    before = files(), tasks(), resident_kib()
    for _ in range(LOADS - LOADS // 4):
        once()
    assert settles(files, before[0] + 5) and settles(tasks, before[1] + 5)
    # A leak of one instance's memory alone would be 64 KiB each.
    assert resident_kib() - before[2] < (LOADS - LOADS // 4) * 16, before


def test_processes_and_their_files_are_gone(make_host):
    host = make_host()
    start(host, FIXTURES["grpc"]).close()
    host.close()
    before = files()
    for _ in range(5):
        host = make_host()
        plugin = start(host, FIXTURES["grpc"])
        pid = plugin.call("command", do("pid"))["pid"]
        assert Path(f"/proc/{pid}").exists()
        host.close()
        assert not Path(f"/proc/{pid}").exists()
        plugin.close()
    # A host has more files than that.
    assert settles(files, before + 3)


def test_user_data_is_let_go_with_its_host(make_host, api):
    gc.collect()
    before = len(_callbacks._alive)
    for _ in range(20):
        host = make_host(api=api, on_event=lambda event: None)
        with start(host, FIXTURES["wasm"], api=api) as plugin:
            plugin.call("command", ask("kv_get", key="a"))
        host.close()
        del host, plugin
    gc.collect()
    assert len(_callbacks._alive) <= before + 1


def test_errors_and_results_are_freed(wasm):
    command = wasm.function("command")

    def both():
        for _ in range(300):
            command(do("big", bytes=100_000))
            with pytest.raises(flowplug.PluginError, match="xxx"):
                command(do("error", text="x" * 10_000))

    both()
    before = resident_kib()
    for _ in range(4):
        both()
    # 1,200 results of 100 kB would be 120 MB.
    assert resident_kib() - before < 30_000
