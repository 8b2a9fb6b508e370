"""Which of the columns that came later each local label file has: told by the bytes of its footer, not parsed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_END_BYTES = 8  # of a Parquet file: the length of its footer, and "PAR1"
_GUESS_BYTES = 2**16


def group_by_columns(paths: Sequence[str], names: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """The files that have the same of these columns, by these, all in the order given.

    Parsing a footer costs as much as a query over the file. A footer holds the name of each column as it is, after a
    byte for its length, so looking for that costs a twentieth. What cannot be read has no columns.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        footer = _read_footer(path)
        found.setdefault(tuple(name for name in names if _as_stored(name) in footer), []).append(path)
    return found


def _as_stored(name: str) -> bytes:
    encoded = name.encode()
    assert len(encoded) < 128, "a longer name has its length in two bytes"
    return bytes([len(encoded)]) + encoded


def _read_footer(path: str) -> bytes:
    try:
        with Path(path).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            tail = os.pread(file.fileno(), _GUESS_BYTES, max(0, size - _GUESS_BYTES))
            length = int.from_bytes(tail[-_END_BYTES:-4], "little") + _END_BYTES
            if len(tail) < length <= size:
                tail = os.pread(file.fileno(), length, size - length)
            return tail[-length:]
    except OSError:
        return b""
