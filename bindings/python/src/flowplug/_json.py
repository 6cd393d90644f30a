"""JSON in and out, strict both ways."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .errors import InvalidResponseError


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def dumps(value: Any) -> bytes:
    """None is absent (the empty text); bytes are JSON text already. Raises TypeError or ValueError for what JSON cannot say."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return _encode(value).encode()


def loads(text: bytes, plugin: str = "", function: str = "") -> Any:
    """What the library or a plugin answered."""
    try:
        return _decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidResponseError(f"The answer cannot be read as JSON: {error}.", plugin=plugin, function=function) from error
