"""Threads, the interpreter's lock, and things closed under their users."""

import threading

from conftest import BOUND, ask, do, start

import flowplug


def in_threads(count, work):
    failures: list[BaseException] = []

    def guarded(n):
        try:
            work(n)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * BOUND)
        assert not thread.is_alive()
    assert failures == []


def test_one_plugin_from_many_threads(plugin, api):
    command = plugin.function("command")

    def work(n):
        for i in range(30):
            content = {"thread": n, "i": i}
            assert plugin.call("command", do("echo", **content), timeout=BOUND) == {"do": "echo", **content}
            assert command(do("echo", **content), timeout=BOUND) == {"do": "echo", **content}
            assert plugin.call("command", ask("kv_set", key=f"{n}", value=f"{i}"), tag=n, timeout=BOUND) == {"done": True}

    in_threads(8, work)
    assert sorted(api.store.values()) == [b"29"] * 8


def test_a_call_in_wasm_releases_the_interpreter(wasm, api):
    """While one thread is inside an endless guest, this one calls the same plugin. Were the lock held, the other call would end by
    its deadline first, not by the token."""
    ended: list[flowplug.Status] = []

    def spin(token):
        try:
            wasm.call("command", do("spin", tell="inside"), cancel=token, timeout=BOUND)
        except flowplug.FlowplugError as error:
            ended.append(error.status)

    with flowplug.CancelToken() as token:
        other = threading.Thread(target=spin, args=(token,))
        other.start()
        assert api.inside.wait(BOUND)
        for n in range(100):
            assert wasm.call("command", do("echo", n=n)) == {"do": "echo", "n": n}
        token.cancel()
        other.join(BOUND)
    assert ended == [flowplug.Status.CANCELLED]


def test_closing_under_calls_in_flight_is_safe(host, name):
    for _ in range(5):
        plugin = start(host, name)
        command = plugin.function("command")
        begun = threading.Barrier(5)

        def work(n, plugin=plugin, command=command, begun=begun):
            begun.wait(BOUND)
            try:
                if n == 0:
                    plugin.close()
                    command.close()
                for _ in range(50):
                    plugin.call("command", do("echo"), timeout=BOUND)
                    command(do("echo"), timeout=BOUND)
            except flowplug.FlowplugError as error:
                allowed = {flowplug.Status.INVALID_STATE, flowplug.Status.CANCELLED, flowplug.Status.UNAVAILABLE}
                assert error.status in allowed, error

        in_threads(5, work)


def test_two_hosts_do_not_meet(make_host, name):
    one, two = make_host(), make_host()
    first, second = start(one, name), start(two, name)
    one.close()
    assert second.call("command", do("echo")) == {"do": "echo"}
    assert first.state is flowplug.State.STOPPED
