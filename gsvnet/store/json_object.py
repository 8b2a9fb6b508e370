"""The small records of an output: JSON objects, each in a file of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gsvnet.errors import CorruptLabels
from gsvnet.store.filesystem import StorageOptions, read_bytes
from gsvnet.uris import redact_uri


def to_json(value: Mapping[str, Any]) -> bytes:
    """The object as it is stored: readable, sorted, UTF-8 whatever texts it holds."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a surrogate pair, which no UTF-8 has, as JSON escapes it


def read_json(uri: str, storage_options: StorageOptions = None) -> dict[str, Any] | None:
    """The object in a file, or None where there is none. Raises CorruptLabels and as `read_bytes` does."""
    data = read_bytes(uri, storage_options)
    return None if data is None else parse_json(data, redact_uri(uri))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """The object that the bytes hold; all its numbers are finite. where: begins the message.

    Raises CorruptLabels for anything else.
    """
    try:
        value = json.loads(data, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise CorruptLabels(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptLabels(f"{where} holds no JSON object")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number
