"""Label files as they are read: footers, row groups and masks, each kept for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from gsvnet.classes import IGNORE
from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store.codec import CODEC, check_size, decode_mask
from gsvnet.store.columns import check_columns, check_group_rows
from gsvnet.store.faults import attempt, damaged_labels
from gsvnet.store.filesystem import protocol_of
from gsvnet.store.schema import LABELED
from gsvnet.store.sources import Source, check_job, parse_sources

T = TypeVar("T")

MASK_COLUMNS = ("status", "height", "width", "codec", "mask")
UNCERTAIN_COLUMNS = ("height", "width", "codec", "mask_uncertain")
_KEPT_FILES, _KEPT_GROUPS = 4096, 8
_KEPT_METADATA = 64  # an hour of shards; 0.15 MB each, of a compacted file some MB
_THREADS = 16


@dataclass(frozen=True)
class LabelFile:
    """An opened label file. starts: the row at which each row group starts, then the number of rows."""

    path: str
    sources: tuple[Source, ...]
    starts: tuple[int, ...]

    @cached_property
    def by_video(self) -> dict[str, list[Source]]:
        """The sources of each video that the file has rows of."""
        found: dict[str, list[Source]] = {}
        for source in self.sources:
            found.setdefault(source.footer.video, []).append(source)
        return found


class LabelFileReader:
    """Reads label files of one job on one file system. Keeps footers and the row groups that were read last.

    job: its fingerprint.
    """

    def __init__(self, fs: AbstractFileSystem, job: str) -> None:
        self.fs, self.job = fs, job
        self.open = lru_cache(maxsize=_KEPT_FILES)(self._open)
        self.read_group = lru_cache(maxsize=_KEPT_GROUPS)(self._read_group)
        self._metadata = lru_cache(maxsize=_KEPT_METADATA)(self._read_metadata)

    def open_all(self, paths: Iterable[str]) -> list[LabelFile]:
        """`open` of many files, by several threads."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self.open, paths))

    def _open(self, path: str) -> LabelFile:
        """Raises CorruptLabels for what is no whole label file of the job, StoreError for one of a newer version."""
        metadata = self._metadata(path)
        sources = parse_sources(metadata.metadata, path)
        check_job(sources, self.job, path)
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        stated = sum(source.num_rows for source in sources)
        if not stated == metadata.num_rows == sum(counts) or min(counts, default=0) < 0 or stated == 0:
            raise CorruptLabels(f"{path} has {metadata.num_rows} rows, its footer says {stated}")
        check_group_rows(max(counts), f"{path}, a row group,")
        return LabelFile(path, sources, tuple(accumulate(counts, initial=0)))

    def _read_metadata(self, path: str) -> pq.FileMetaData:
        return self._read_file(path, path, pq.read_metadata)

    def _read_group(self, path: str, group: int, columns: tuple[str, ...] | None = None) -> pa.Table:
        """Some columns, None: all, of one row group.

        Raises CorruptLabels where pages fail their checksums, and for other columns or rows than a label file's.
        """
        metadata, opened = self._metadata(path), self.open(path)
        what = f"{path}, row group {group},"

        def read(file: BinaryIO) -> pa.Table:
            parquet = pq.ParquetFile(file, metadata=metadata, page_checksum_verification=True)
            names = list(columns) if columns else None
            return parquet.read_row_group(group, columns=names, use_threads=False)  # threads cost more than they save

        table = self._read_file(path, what, read)
        check_columns(table, opened.sources[0].footer.classes, columns, what)
        if len(table) != opened.starts[group + 1] - opened.starts[group]:
            raise CorruptLabels(f"{what} has {len(table)} rows, the footer says others")
        return table

    def _read_file(self, path: str, what: str, read: Callable[[BinaryIO], T]) -> T:
        """What `read` makes of a label file, tried again while the store is out. what: begins the message."""

        def open_and_read() -> T:
            try:
                with pa.OSFile(path) if protocol_of(self.fs) == "file" else self.fs.open(path, "rb") as file:
                    return read(file)
            except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
                if isinstance(error, OSError) and (type(error) is not OSError or error.errno or error.__cause__):
                    raise  # the store's; Arrow's own have neither number nor cause
                raise damaged_labels(f"{what} cannot be read: {error}") from error

        return attempt("read", path, open_and_read)


def decode_row(record: dict, where: str) -> np.ndarray:
    """Label map (H, W) uint8 of a row with MASK_COLUMNS; 255 all over for a lost frame. where: begins messages.

    Raises CorruptLabels for a mask that fails its check, StoreError for a codec of a newer version.
    """
    if record["status"] not in LABELED:
        return _ignore_all(record, where)
    return _decode(record, "mask", where)


def decode_uncertain(record: dict, where: str) -> np.ndarray:
    """Map (H, W) uint8 of a row with UNCERTAIN_COLUMNS: 1 where ways to its labels differ, else 0.

    255 all over where there is no such map; the column may be absent, as in files from before it came. where: begins
    messages. Raises CorruptLabels for a map that fails its check or has other values, StoreError for a codec of a newer
    version.
    """
    if record.get("mask_uncertain") is None:
        return _ignore_all(record, where)
    uncertain = _decode(record, "mask_uncertain", where)
    if uncertain.max() > 1:
        raise CorruptLabels(f"{where}: mask_uncertain holds {uncertain.max()}; it must be 0 or 1")
    return uncertain


def _decode(record: dict, name: str, where: str) -> np.ndarray:
    if record["codec"] != CODEC:
        raise StoreError(f"{where}: codec {record['codec']!r} is not known to this gsvnet ({CODEC}): upgrade gsvnet")
    if record[name] is None:
        raise CorruptLabels(f"{where}: status {record['status']!r} and no {name}")
    try:
        return decode_mask(record[name], record["height"], record["width"])
    except CorruptLabels as error:
        raise CorruptLabels(f"{where}: {error}") from error


def _ignore_all(record: dict, where: str) -> np.ndarray:
    height, width = record["height"], record["width"]
    try:
        check_size(height, width)
    except CorruptLabels as error:
        raise CorruptLabels(f"{where}: {error}") from error
    return np.full((height, width), IGNORE, np.uint8)
