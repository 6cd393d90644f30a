"""The bookmark service as a gRPC plugin in Python. All it remembers is in the host's key-value store."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from flowplug_sdk import HostClient, Module, PluginError, serve

CAPABILITY = "bookmark"
EVENT_TYPE = "bookmark.created"


class Bookmarks(Module):
    def __init__(self) -> None:
        # Two creations at once must not write over each other's index.
        self._index = threading.Lock()

    def init(self, host: HostClient, config: Any) -> None:
        if not (config or {}).get("user_agent"):
            raise PluginError("user_agent is empty")

    def command(self, host: HostClient, context: Any, content: Any) -> Any:
        count = len(index_of(host))
        return {
            "_type": "TextMsg",
            "text": f"{count} bookmark(s) saved. Try: list, get <id>, create <url>.",
        }

    def form(self, host: HostClient, context: Any, values: dict[str, str]) -> Any:
        raise PluginError("no form here")

    def help(self, host: HostClient) -> Any:
        return {
            CAPABILITY: [
                "list: all bookmarks",
                "get <id>: one bookmark",
                "create <url>: fetch the page's title and save it",
            ]
        }

    def ability_call(self, host: HostClient, operation: str, params: Any) -> Any:
        params = params or {}
        if operation == "create":
            return self.create(host, params.get("url", ""))
        if operation == "get":
            return answer(operation, data=get(host, params.get("id", "")))
        if operation == "list":
            saved = [get(host, each) for each in index_of(host)]
            return answer(operation, data=saved, text=f"{len(saved)} bookmark(s)")
        raise PluginError(f"unknown operation {operation}")

    def create(self, host: HostClient, url: str) -> Any:
        response = host.http("GET", url, {"User-Agent": host.get_config("user_agent")})
        if response.status != 200:
            raise PluginError(f"GET {url} answered {response.status}")
        title = title_of(response.body.decode("utf-8", "replace")) or url
        bookmark = {"id": f"{fnv1a(url.encode()):08x}", "url": url, "title": title}
        ident = bookmark["id"]
        host.kv_set(f"bookmark/{ident}", encode(bookmark))
        with self._index:
            index = index_of(host)
            if ident not in index:
                index.append(ident)
            host.kv_set("index", encode(index))
        host.log("info", "bookmark created", {"id": ident, "url": url})
        host.emit_event("bookmarks", EVENT_TYPE, {"url": url, "title": title, "entity_id": ident})
        event = {
            "event_id": f"{ident}-created",
            "event_type": EVENT_TYPE,
            "entity_id": ident,
        }
        return answer("create", data=bookmark, text=f'Saved "{title}" as {ident}.', events=[event])


def answer(operation: str, **fields: Any) -> dict[str, Any]:
    return {"capability": CAPABILITY, "operation": operation, **fields}


def get(host: HostClient, ident: str) -> Any:
    saved = host.kv_get(f"bookmark/{ident}")
    if saved is None:
        raise PluginError(f"no bookmark with id {ident}")
    return json.loads(saved)


def index_of(host: HostClient) -> list[str]:
    return list(json.loads(host.kv_get("index") or b"[]"))


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def title_of(page: str) -> str:
    """The title as the page's source has it, entities included."""
    found = re.search(r"<title>(.*?)</title>", page, re.DOTALL | re.IGNORECASE)
    return found.group(1).strip() if found else ""


def fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


if __name__ == "__main__":
    serve(Bookmarks())
