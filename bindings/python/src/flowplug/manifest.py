"""What a plugin declares of itself."""

from __future__ import annotations

import os
from typing import Any

from . import _json
from ._calling import call_options
from ._managed import Managed, Out, ask_bytes, text
from ._native import ffi, lib


class Manifest(Managed):
    """A parsed plugin.yaml. Made by `parse` or `read`; may be used from several threads at once."""

    @classmethod
    def parse(cls, content: str | bytes, base_dir: str | os.PathLike[str] | None = None, strict: bool = False) -> Manifest:
        """From YAML or JSON. Relative paths in it count from `base_dir` (None: the working directory).

        strict makes unknown fields an error instead of a warning. Raises `InvalidManifestError`.
        """
        return cls._make(lib.flowplug_manifest_parse, content, os.fsencode(base_dir) if base_dir is not None else b"", strict)

    @classmethod
    def read(cls, path: str | os.PathLike[str], strict: bool = False) -> Manifest:
        """From a file, or from plugin.yaml in a folder. Raises `InvalidManifestError` or `IoError`."""
        return cls._make(lib.flowplug_manifest_read, os.fsencode(path), b"", strict)

    @classmethod
    def _make(cls, function: Any, argument: str | bytes, base_dir: bytes, strict: bool) -> Manifest:
        out, handle = Out(), ffi.new("flowplug_manifest **")
        options = ffi.new("flowplug_manifest_options *")
        options.struct_size = ffi.sizeof("flowplug_manifest_options")
        options.base_dir, _keep_dir = text(base_dir)
        options.strict = strict
        value, _keep = text(argument)
        out.check(function(value, options, handle, out.error))
        manifest = cls()
        manifest._own(handle[0], lib.flowplug_manifest_free)
        return manifest

    def to_dict(self) -> dict[str, Any]:
        """The manifest's fields under the names of the file, defaults filled in."""
        return dict(_json.loads(ask_bytes(lib.flowplug_manifest_json, self._ptr)))

    @property
    def warnings(self) -> list[str]:
        """What is odd about it, unknown fields above all."""
        return list(_json.loads(ask_bytes(lib.flowplug_manifest_warnings, self._ptr)))

    def validate_config(self, config: Any = None, timeout: float | None = None) -> None:
        """Checks a config (any JSON value; None: absent) against config_schema. Raises `InvalidConfigError`."""
        out = Out()
        value, _keep = text(_json.dumps(config))
        options, _keep_options = call_options(timeout)
        out.check(lib.flowplug_manifest_validate_config(self._ptr, value, options, out.error))

    def fill_config(self, config: Any = None, timeout: float | None = None) -> Any:
        """The config with the defaults of config_schema where it lacks them, checked. None: absent, which starts as the schema's own
        default, or as {} where its type is object.

        Defaults come from properties, items, prefixItems, additionalProperties, allOf and local $refs, never from anyOf, oneOf, if or
        patterns. Raises `InvalidConfigError`.
        """
        value, _keep = text(_json.dumps(config))
        options, _keep_options = call_options(timeout)
        return _json.loads(ask_bytes(lib.flowplug_manifest_fill_config, self._ptr, value, options))


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of plugin.yaml, for editors and for checks of one's own."""
    return dict(_json.loads(ffi.string(lib.flowplug_manifest_schema())))


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy."""
    return dict(_json.loads(ffi.string(lib.flowplug_policy_schema())))
