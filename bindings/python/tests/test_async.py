"""Calls that an event loop waits for."""

import asyncio

import pytest
from conftest import BOUND, ask, do, endless

import flowplug
from flowplug import _callbacks


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, BOUND))


def test_an_answer_and_an_error(plugin):
    async def both():
        assert await plugin.acall("command", do("echo", n=1)) == {"do": "echo", "n": 1}
        with pytest.raises(flowplug.PluginError) as failure:
            await plugin.acall("command", do("error", text="no"))
        assert failure.value.plugin_message == "no"
        with pytest.raises(flowplug.UnknownFunctionError):
            await plugin.acall("no_such_function")

    run(both())


def test_many_at_once(plugin, api):
    async def many():
        calls = [plugin.acall("command", do("echo", n=n)) for n in range(200)]
        assert [answer["n"] for answer in await asyncio.gather(*calls)] == list(range(200))
        assert await plugin.acall("command", ask("kv_set", key="a", value="b"), tag=5) == {"done": True}

    run(many())
    assert api.callers[-1].tag == 5


def test_a_cancelled_task_cancels_the_call(plugin, api, name):
    async def cancelled():
        task = asyncio.create_task(plugin.acall("command", endless(name)))
        assert await asyncio.to_thread(api.inside.wait, BOUND)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        api.over.set()
        # The loop was never blocked, and the plugin goes on.
        assert await plugin.acall("command", do("echo")) == {"do": "echo"}

    run(cancelled())


def test_a_deadline(plugin):
    async def late():
        with pytest.raises(flowplug.CallTimeoutError):
            await plugin.acall("command", do("sleep", ms=300_000), timeout=0.1)

    run(late())


def test_a_loop_that_is_gone_when_the_answer_comes(make_host, plugin):
    async def leave():
        task = asyncio.create_task(plugin.acall("command", do("sleep", ms=300_000)))
        await asyncio.sleep(0)
        return task

    # asyncio.run cancels what is left over and closes the loop; the library's answer finds nobody.
    task = asyncio.run(leave())
    assert task.cancelled()
    assert plugin.call("command", do("echo")) == {"do": "echo"}


def test_completions_are_let_go(make_host, host, plugin):
    async def some():
        await asyncio.gather(*(plugin.acall("command", do("echo")) for _ in range(50)))

    run(some())
    plugin.close()
    host.close()
    assert not any(type(_callbacks.ffi.from_handle(handle)).__name__ == "Completion" for handle in _callbacks._alive.values())
