"""The shard writer: rows go into a local spool file, which becomes visible only after a clean end."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.errors import ConfigError, NoSpace, StoreError
from gsvnet.store.faults import NO_SPACE_ERRORS
from gsvnet.store.filesystem import StorageOptions
from gsvnet.store.publish import publish_file
from gsvnet.store.schema import (
    ENCODED_MASKS,
    MAX_ROW_GROUP_BYTES,
    MAX_ROW_GROUP_ROWS,
    FrameRow,
    ShardFooter,
    open_label_writer,
    parse_footer,
    rows_to_table,
)
from gsvnet.store.temporary import create_temporary, sweep_temporary


@dataclass(frozen=True, kw_only=True)
class PublishedShard:
    """What became visible: rows, of which lost (not decoded), bytes of the object, bytes of masks of both sorts."""

    uri: str
    num_rows: int
    num_lost: int
    num_bytes: int
    mask_bytes: int


class ShardWriter:
    """Context manager that publishes one shard.

    Append rows in frame order, from the footer's first frame on, without gaps. On a clean exit the spool is closed,
    reopened and checked, forced to disk and published create-only; `published` then says what. On an exception
    nothing becomes visible. Either way the spool is gone.

    The exit raises AlreadyPublished when another attempt was first, NoSpace, or StoreError; the start raises NoSpace
    when the spool folder has less room than `needed_bytes` (see `estimate_spool_bytes`), ConfigError when it cannot
    be written.
    """

    def __init__(
        self,
        uri: str,
        *,
        footer: ShardFooter,
        spool_dir: str | Path,
        needed_bytes: int = 0,
        expected_rows: int | None = None,
        storage_options: StorageOptions = None,
        unsafe_commit: bool = False,
    ) -> None:
        self.uri, self.footer, self.spool_dir = uri, footer, Path(spool_dir)
        self.needed_bytes, self.expected_rows = needed_bytes, expected_rows
        self.storage_options, self.unsafe_commit = storage_options, unsafe_commit
        self.published: PublishedShard | None = None
        self._rows: list[FrameRow] = []
        self._num_rows = self._num_lost = self._mask_bytes = self._waiting_bytes = 0

    def __enter__(self) -> ShardWriter:
        check_space(self.spool_dir, self.needed_bytes)
        try:
            self._spool, self._file = create_temporary(self.spool_dir)
        except OSError as error:
            raise explain_spool_error(error, self.spool_dir) from error
        try:
            self._writer = open_label_writer(self._file, self.footer.classes)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def append(self, row: FrameRow) -> None:
        """Add the next frame. Raises StoreError when it is not the next, NoSpace when the spool disk is full."""
        expected = self.footer.first_frame + self._num_rows
        if row.frame_index != expected:
            raise StoreError(f"{self.uri}: frame {row.frame_index} was appended where frame {expected} belongs")
        self._rows.append(row)
        self._num_rows += 1
        self._num_lost += row.is_lost
        self._waiting_bytes += sum(len(getattr(row, name) or b"") for name in ENCODED_MASKS)
        if len(self._rows) >= MAX_ROW_GROUP_ROWS or self._waiting_bytes >= MAX_ROW_GROUP_BYTES:
            self._write_row_group()

    def _write_row_group(self) -> None:
        try:
            self._writer.write_table(rows_to_table(self._rows, self.footer))
        except OSError as error:
            raise explain_spool_error(error, self.spool_dir) from error
        self._rows.clear()
        self._mask_bytes += self._waiting_bytes
        self._waiting_bytes = 0

    def _finish(self) -> None:
        if self._num_rows == 0 or self.expected_rows not in (None, self._num_rows):
            raise StoreError(f"{self.uri}: {self._num_rows} rows were written, {self.expected_rows or 'some'} expected")
        if self._rows:
            self._write_row_group()
        try:
            self._writer.add_key_value_metadata(self.footer.to_metadata(self._num_rows))
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise explain_spool_error(error, self.spool_dir) from error
        self._check(self._file)
        publish_file(self._spool, self.uri, self.storage_options, self.unsafe_commit)
        self.published = PublishedShard(
            uri=self.uri,
            num_rows=self._num_rows,
            num_lost=self._num_lost,
            num_bytes=self._spool.stat().st_size,
            mask_bytes=self._mask_bytes,
        )

    def _check(self, file: BinaryIO) -> None:
        """Read the spool's footer back: what is published can be opened and is whole."""
        file.seek(0)
        metadata = pq.read_metadata(file)
        footer, num_rows = parse_footer(metadata.metadata, str(self._spool))
        if not metadata.num_rows == num_rows == self._num_rows or footer != self.footer:
            raise StoreError(f"{self.uri}: the spool holds {metadata.num_rows} rows, {self._num_rows} were written")

    def _discard(self) -> None:
        with contextlib.suppress(AttributeError, OSError, pa.ArrowException):
            self._writer.close()  # after an error: of no use to anyone, but frees its memory
        with contextlib.suppress(OSError):
            self._file.close()
        self._spool.unlink(missing_ok=True)


def check_space(spool_dir: str | Path, needed_bytes: int) -> None:
    """Raise NoSpace when the folder's disk has less free room, ConfigError when there is no such folder."""
    try:
        free = shutil.disk_usage(spool_dir).free
    except OSError as error:
        raise explain_spool_error(error, Path(spool_dir)) from error
    if free < needed_bytes:
        raise NoSpace(
            f"{spool_dir} has {free / 2**20:.1f} MiB free, a shard may need {needed_bytes / 2**20:.1f} MiB: "
            "free some, or choose another --spool-dir or a smaller --shard-seconds"
        )


def estimate_spool_bytes(num_frames: int, height: int, width: int) -> int:
    """Bytes that a shard may need in the spool: several times what street scenes take (see FORMAT.md)."""
    return num_frames * (2_000 + height * width // 50) + 2**20


def default_spool_dir() -> Path:
    """Where spools are built when nobody says: one folder per user, so that none per job stays behind."""
    return Path(tempfile.gettempdir()) / f"gsvnet-spool-{os.getuid()}"


def make_spool_dir(folder: str | Path) -> None:
    """Make a folder for spools, open to this user alone, where it is not there.

    Raises ConfigError where it cannot be made, and for the default folder where others may write, or made it first:
    its name can be guessed, and whoever owns a folder may exchange the files in it.
    """
    path = Path(folder)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot make the spool folder {path}: {reason}; choose another --spool-dir") from error
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    if path == default_spool_dir() and not is_own:
        raise ConfigError(f"the spool folder {path} is another user's, a link, or others may write it; use --spool-dir")


def sweep_spools(spool_dir: str | Path) -> list[Path]:
    """Remove the spools that dead processes of this host left; the removed paths."""
    return sweep_temporary(spool_dir)


def explain_spool_error(error: OSError, spool_dir: Path) -> StoreError | ConfigError:
    """What went wrong with a file in the spool folder: NoSpace, or ConfigError where it cannot be written."""
    if error.errno in NO_SPACE_ERRORS:
        return NoSpace(f"no space left in {spool_dir}: free some, or choose another --spool-dir")
    return ConfigError(f"cannot write spools in {spool_dir}: {error.strerror or error}; choose another --spool-dir")
