"""What goes in and comes out, beside plain JSON."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, TypedDict


class State(enum.IntEnum):
    """Where a plugin is in its life."""

    LOADING = 0
    RUNNING = 1
    STOPPING = 2
    ERROR = 3
    STOPPED = 4


class LogLevel(enum.IntEnum):
    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3


class Health(TypedDict):
    """A plugin's health; uptime_ns counts from its start."""

    ready: bool
    last_error: str
    uptime_ns: int
    state: str
    restarts: int


class Instance(TypedDict):
    """A plugin of a manager. manifest is None if it could not be read, started_at if it never was started; source is "" for what was
    loaded by hand."""

    identity: str
    manifest: dict[str, Any] | None
    state: str
    started_at: str | None
    last_error: str
    restarts: int
    calls: int
    in_flight: int
    source: str
    folder: str


class PolicyRequest(TypedDict, total=False):
    """One wish of a manifest and what the policy says to it. grant is the line of the policy that would grant what is denied; absent
    where it is granted, and where no line would."""

    what: str
    field: str
    asked: str
    granted: str
    allowed: bool
    rule: str
    grant: str


class Admission(TypedDict):
    """What a policy says to all that a manifest asks for; granted are the bounds that would be in force, without what is denied."""

    allowed: bool
    identity: str
    runtime: str
    requests: list[PolicyRequest]
    granted: dict[str, Any]


class PluginInfo(TypedDict, total=False):
    """What a loaded plugin is, and what it was granted."""

    name: str
    version: str
    identity: str
    runtime: str
    provides: dict[str, Any]
    config_schema: Any
    granted: dict[str, Any]
    requests: list[PolicyRequest]
    exports: list[Any]
    imports: list[Any]


@dataclass(frozen=True)
class LogRecord:
    """A line for the log; plugin is "" for the library's own. tag is the call's, 0 where that is not known."""

    plugin: str
    level: LogLevel
    message: str
    fields: dict[str, str]
    tag: int = 0


@dataclass(frozen=True)
class HTTPRequest:
    """A request that a plugin wants made. Its URL has passed the plugin's allowlist; a redirect of it has not."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class HTTPResponse:
    """headers may be a dict where no name comes twice."""

    status: int
    headers: dict[str, str] | list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
