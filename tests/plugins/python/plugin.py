"""A plugin for tests of hosts. `command` does what its content's `do` names, by the contract of the fixtures in C and Go:

echo            the content as it came          error {"text"}   an error of the plugin's own
sleep {"ms"}    answers {"slept": ms}           panic {"text"}   an exception that nobody expected
spin            an endless loop                 big {"bytes"}    a JSON text of so many bytes, quotes included
pid             {"pid": n}                      crash            the process ends with status 3
config          what init was given             output {"text"}  a line on standard output and on standard error
host {"fn", "args"}   a host function

host answers {"value": ...}, {"missing": true}, {"done": true} or {"error": the host's own text}. Values of the store are text,
and so is a body, both ways. A config with `fail` refuses to start with that text.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from flowplug_sdk import HostClient, HostError, Module, PluginError, serve


class Fixture(Module):
    def __init__(self) -> None:
        self.config: Any = None

    def init(self, host: HostClient, config: Any) -> None:
        if isinstance(config, dict) and "fail" in config:
            raise PluginError(str(config["fail"]))
        self.config = config

    def command(self, host: HostClient, context: Any, content: Any) -> Any:
        if not isinstance(content, dict):
            raise PluginError("the content must be an object with do")
        do = getattr(self, f"do_{content.get('do')}", None)
        if do is None:
            raise PluginError("unknown do")
        return do(host, content)

    def do_echo(self, host: HostClient, content: Any) -> Any:
        return content

    def do_error(self, host: HostClient, content: Any) -> Any:
        raise PluginError(content["text"])

    def do_panic(self, host: HostClient, content: Any) -> Any:
        raise RuntimeError(content["text"])

    def do_sleep(self, host: HostClient, content: Any) -> Any:
        time.sleep(content["ms"] / 1000)
        return {"slept": content["ms"]}

    def do_spin(self, host: HostClient, content: Any) -> Any:
        while True:
            pass

    def do_big(self, host: HostClient, content: Any) -> Any:
        return "x" * (content["bytes"] - 2)

    def do_output(self, host: HostClient, content: Any) -> Any:
        print(content["text"], flush=True)
        print(content["text"], file=sys.stderr, flush=True)

    def do_pid(self, host: HostClient, content: Any) -> Any:
        return {"pid": os.getpid()}

    def do_crash(self, host: HostClient, content: Any) -> Any:
        print("fatal error: the fixture was told to crash", file=sys.stderr, flush=True)
        os._exit(3)

    def do_config(self, host: HostClient, content: Any) -> Any:
        return self.config

    def do_host(self, host: HostClient, content: Any) -> Any:
        try:
            return ask(host, content["fn"], content["args"])
        except HostError as error:
            return {"error": str(error)}


def ask(host: HostClient, fn: str, args: dict[str, Any]) -> Any:
    if fn == "get_config":
        return {"value": host.get_config(args["key"])}
    if fn == "kv_get":
        value = host.kv_get(args["key"])
        return {"missing": True} if value is None else {"value": value.decode()}
    if fn == "http_request":
        got = host.http(
            args["method"],
            args["url"],
            args.get("headers"),
            args.get("body", "").encode(),
        )
        return {"value": {"status": got.status, "headers": got.headers, "body": got.body.decode()}}
    if fn == "kv_set":
        host.kv_set(args["key"], args["value"].encode())
    elif fn == "kv_delete":
        host.kv_delete(args["key"])
    elif fn == "log":
        level = ("debug", "info", "warn", "error")[args["level"]]
        host.log(level, args["message"], args.get("fields"))
    elif fn == "emit_event":
        host.emit_event(args.get("source", ""), args["event_type"], args.get("data", {}))
    else:
        raise PluginError("no such host function")
    return {"done": True}


if __name__ == "__main__":
    serve(Fixture())
