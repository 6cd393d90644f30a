"""What can go wrong, one class for each status of the library."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any


class Status(enum.IntEnum):
    """The library's status numbers, fixed for ever."""

    OK = 0
    INVALID_ARGUMENT = 1
    INVALID_MANIFEST = 2
    INVALID_CONFIG = 3
    INVALID_STATE = 4
    NOT_FOUND = 5
    UNKNOWN_FUNCTION = 6
    LOAD_FAILED = 7
    START_FAILED = 8
    PLUGIN_ERROR = 9
    INVALID_RESPONSE = 10
    TRAP = 11
    OUT_OF_MEMORY = 12
    TIMEOUT = 13
    CANCELLED = 14
    BUSY = 15
    PERMISSION_DENIED = 16
    UNAVAILABLE = 17
    HOST_ERROR = 18
    IO = 19
    INTERNAL = 20
    UNSUPPORTED = 21


class FlowplugError(Exception):
    """A failure of the library, of a plugin or of a host callback. Callbacks raise the subclasses too: `NotFoundError("no such user")`.

    plugin and function say where it happened ("" if nowhere in particular), plugin_message is the plugin's own text, and
    details holds what else is known: violations, problems, backtrace, exit_status, stderr, denied.
    """

    status = Status.INTERNAL

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str = "",
        function: str = "",
        plugin_message: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.plugin = plugin
        self.function = function
        self.plugin_message = plugin_message
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return self.message


class InvalidArgumentError(FlowplugError):
    """An argument cannot be used: text that is not UTF-8, a number out of range."""

    status = Status.INVALID_ARGUMENT


class InvalidManifestError(FlowplugError):
    """The manifest cannot be used; details["problems"] lists every reason with line and column."""

    status = Status.INVALID_MANIFEST


class InvalidConfigError(FlowplugError):
    """The config breaks the manifest's config_schema; details["violations"] lists every place."""

    status = Status.INVALID_CONFIG


class InvalidStateError(FlowplugError):
    """Not now: the plugin is not running, or runs already, or the object is closed."""

    status = Status.INVALID_STATE


class NotFoundError(FlowplugError):
    """The manifest does not provide it."""

    status = Status.NOT_FOUND


class UnknownFunctionError(FlowplugError):
    """The plugin has no such function."""

    status = Status.UNKNOWN_FUNCTION


class LoadFailedError(FlowplugError):
    """The plugin's file is missing, is not what the manifest says, or did not come up."""

    status = Status.LOAD_FAILED


class StartFailedError(FlowplugError):
    """The plugin refused to start; plugin_message says why."""

    status = Status.START_FAILED


class PluginError(FlowplugError):
    """The plugin answered with an error; plugin_message is its text."""

    status = Status.PLUGIN_ERROR


class InvalidResponseError(FlowplugError):
    """The plugin's answer is not what the protocol asks for."""

    status = Status.INVALID_RESPONSE


class TrapError(FlowplugError):
    """The plugin's code crashed; details["backtrace"] says where."""

    status = Status.TRAP


class OutOfMemoryError(FlowplugError):
    """The plugin wanted more memory than it is granted."""

    status = Status.OUT_OF_MEMORY


class CallTimeoutError(FlowplugError, TimeoutError):
    """The call did not end before its deadline. Also a built-in TimeoutError."""

    status = Status.TIMEOUT


class CallCancelledError(FlowplugError):
    """The call's token was cancelled, or the plugin was stopped under it."""

    status = Status.CANCELLED


class BusyError(FlowplugError):
    """No instance became free in time, or calls are nested too deep."""

    status = Status.BUSY


class PermissionDeniedError(FlowplugError):
    """The policy does not grant it; details["denied"] says what would."""

    status = Status.PERMISSION_DENIED


class UnavailableError(FlowplugError):
    """The plugin's process is gone, or is being started again: the message says when, or what to do."""

    status = Status.UNAVAILABLE


class HostError(FlowplugError):
    """A callback of this program failed."""

    status = Status.HOST_ERROR


class IoError(FlowplugError):
    """The operating system refused something."""

    status = Status.IO


class InternalError(FlowplugError):
    """A fault of the library."""

    status = Status.INTERNAL


class UnsupportedError(FlowplugError):
    """This build or platform cannot do it."""

    status = Status.UNSUPPORTED


def _by_status() -> dict[int, type[FlowplugError]]:
    return {int(cls.status): cls for cls in FlowplugError.__subclasses__()}


BY_STATUS = _by_status()
