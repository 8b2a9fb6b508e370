"""A Parquet file with one row per compared frame: how far two sets of labels agree on it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.errors import ConfigError
from gsvnet.store.temporary import create_temporary

_SCHEMA = pa.schema([("video", pa.string()), ("frame_index", pa.int64()), ("agreement", pa.float64())])
_BATCH_ROWS = 2**14


class AgreementWriter:
    """Context manager that writes the file; it appears on a clean exit, whole, and never over another.

    Raises ConfigError for a file that exists, or a folder that does not or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[tuple[str, int, float | None]] = []

    def __enter__(self) -> Self:
        if os.path.lexists(self.path):
            raise self._exists()
        try:
            self._temporary, self._file = create_temporary(self.path.absolute().parent)
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror or error}; choose another file") from error
        self._writer = pq.ParquetWriter(self._file, _SCHEMA, compression="zstd")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
                self._writer.close()
                self._file.flush()
                os.link(self._temporary, self.path)
        except FileExistsError as exists:
            raise self._exists() from exists
        except OSError as failed:
            raise ConfigError(f"cannot write {self.path}: {failed.strerror or failed}; choose another file") from failed
        finally:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
            with contextlib.suppress(OSError):  # what could not be written was told above
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def append(self, video: str, frame_index: int, agreement: float | None) -> None:
        """Add a frame. agreement: 0..1, None where it has no pixel to compare."""
        self._rows.append((video, frame_index, agreement))
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = [list(column) for column in zip(*self._rows)] or [[], [], []]
        self._writer.write_table(pa.table(columns, schema=_SCHEMA))
        self._rows.clear()

    def _exists(self) -> ConfigError:
        return ConfigError(f"--frames {self.path} exists; name a new file, or remove it first")
