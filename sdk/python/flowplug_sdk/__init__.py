"""Writes a gRPC plugin for a flowplug (or flowbot) host: subclass `Module`, then `serve(MyModule())`."""

from .host import HostClient, HostError, HTTPResponse
from .module import Module, PluginError
from .server import serve

__all__ = ["HTTPResponse", "HostClient", "HostError", "Module", "PluginError", "serve"]
