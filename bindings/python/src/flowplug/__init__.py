"""A plugin host for Python: gRPC subprocesses and sandboxed WebAssembly behind one interface.

manifest = flowplug.Manifest.read("plugins/greeter")
with flowplug.Host(policy="strict") as host, host.load(manifest, "greeter") as plugin:
    plugin.start({"greeting": "hello"})
    plugin.call("command", {"context": {}, "content": {"text": "hi"}}, timeout=5)
"""

from ._native import ffi as _ffi
from ._native import lib as _lib
from .cancel import CancelToken
from .errors import (
    BusyError,
    CallCancelledError,
    CallTimeoutError,
    FlowplugError,
    HostError,
    InternalError,
    InvalidArgumentError,
    InvalidConfigError,
    InvalidManifestError,
    InvalidResponseError,
    InvalidStateError,
    IoError,
    LoadFailedError,
    NotFoundError,
    OutOfMemoryError,
    PermissionDeniedError,
    PluginError,
    StartFailedError,
    Status,
    TrapError,
    UnavailableError,
    UnknownFunctionError,
    UnsupportedError,
)
from .function import Function
from .host import Host
from .hostapi import Caller, HostAPI
from .http import fetch
from .manager import Manager
from .manifest import Manifest, manifest_schema, policy_schema
from .plugin import Plugin
from .types import Admission, Health, HTTPRequest, HTTPResponse, Instance, LogLevel, LogRecord, PluginInfo, PolicyRequest, State

__version__ = _ffi.string(_lib.flowplug_version()).decode()

if _lib.flowplug_abi_version() != _lib.FLOWPLUG_ABI_VERSION:
    raise ImportError(
        f"The libflowplug that was found has ABI {_lib.flowplug_abi_version()}, but this package was built for "
        f"{_lib.FLOWPLUG_ABI_VERSION}; install the package again."
    )

__all__ = [
    "Admission",
    "BusyError",
    "CallCancelledError",
    "CallTimeoutError",
    "Caller",
    "CancelToken",
    "FlowplugError",
    "Function",
    "HTTPRequest",
    "HTTPResponse",
    "Health",
    "Host",
    "HostAPI",
    "HostError",
    "Instance",
    "InternalError",
    "InvalidArgumentError",
    "InvalidConfigError",
    "InvalidManifestError",
    "InvalidResponseError",
    "InvalidStateError",
    "IoError",
    "LoadFailedError",
    "LogLevel",
    "LogRecord",
    "Manager",
    "Manifest",
    "NotFoundError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "Plugin",
    "PluginError",
    "PluginInfo",
    "PolicyRequest",
    "StartFailedError",
    "State",
    "Status",
    "TrapError",
    "UnavailableError",
    "UnknownFunctionError",
    "UnsupportedError",
    "fetch",
    "manifest_schema",
    "policy_schema",
]
