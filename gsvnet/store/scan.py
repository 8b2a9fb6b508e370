"""One pass over a stored label file: its row groups one after the other, and the sha256 of all its bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store.columns import check_group_rows
from gsvnet.store.faults import attempt
from gsvnet.store.filesystem import StorageOptions, open_filesystem, read_path
from gsvnet.store.layout import labels_uri
from gsvnet.store.listing import list_pages

BLOCK_BYTES = 16 * 2**20  # fetched at once
_TAIL_BYTES = 2**16  # the footer of a shard of four row groups and 19 classes has 30 kB
_FOOTER_END = 8  # its length in four bytes, and "PAR1"
_MAGIC_BYTES = 4
_MOST_AT_ONCE = 2**28  # a row group ends at 8 MiB of masks, and one mask is not that large


@dataclass(frozen=True, kw_only=True)
class StoredLabels:
    """A label file where it lies. path: in the file system. name: what messages call it. num_bytes: as listed.

    modified: seconds since 1970, 0 where the store does not say.
    """

    fs: AbstractFileSystem = field(repr=False)
    path: str
    name: str
    num_bytes: int
    modified: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ScannedGroup:
    """A row group that comes next. first_row: of the file."""

    name: str
    number: int
    first_row: int
    parquet: pq.ParquetFile = field(repr=False)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Some columns, None: all. Raises CorruptLabels where the pages fail their checksums or do not decode."""
        where = f"{self.name}, row group {self.number},"
        check_group_rows(self.parquet.metadata.row_group(self.number).num_rows, where)
        try:
            return self.parquet.read_row_group(self.number, columns=columns and list(columns), use_threads=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CorruptLabels(f"{where} cannot be read: {error}") from error


class LabelScan:
    """A label file read once from front to back, a block in memory. metadata: of its Parquet footer.

    Once `groups` has come to its end: sha256, of all bytes; num_bytes_read: those fetched; is_seamless: what was read
    of it lay one after the other from its start to its footer, as the columns of a whole file do.

    Raises CorruptLabels for a file that is no Parquet or not as long as listed, StoreError for one that is gone,
    StoreUnavailable, StoreRefused.
    """

    def __init__(self, file: StoredLabels) -> None:
        self.file, self.num_bytes_read, self.sha256, self.is_seamless = file, 0, "", False
        self._whole = b""
        if file.num_bytes <= BLOCK_BYTES:
            self._whole = _read_range(file, 0, file.num_bytes)
            self.metadata = _parse_footer(file, self._whole)
        else:
            self.metadata, self.num_bytes_read = read_footer(file)

    def groups(self) -> Iterator[ScannedGroup]:
        """The row groups in order; use each before asking for the next."""
        bytes_ahead = _ForwardFile(self.file, self._whole)
        parquet = pq.ParquetFile(bytes_ahead, metadata=self.metadata, page_checksum_verification=True)
        first_row = 0
        for number in range(self.metadata.num_row_groups):
            yield ScannedGroup(name=self.file.name, number=number, first_row=first_row, parquet=parquet)
            first_row += self.metadata.row_group(number).num_rows
        self.is_seamless = (
            bytes_ahead.asked_from_start <= self.file.num_bytes - _FOOTER_END - self.metadata.serialized_size
        )
        self.sha256 = bytes_ahead.read_to_end()
        self.num_bytes_read += bytes_ahead.num_bytes_read


def list_stored(out: str, storage_options: StorageOptions = None) -> Iterator[list[StoredLabels]]:
    """All files below labels/, page by page, whatever they are; named by the path below the output.

    Raises StoreUnavailable, StoreRefused, StoreError.
    """
    fs, folder = open_filesystem(labels_uri(out), storage_options)
    for page in list_pages(labels_uri(out), storage_options):
        names = [f"labels/{file.path.removeprefix(folder).lstrip('/')}" for file in page]
        yield [
            StoredLabels(fs=fs, path=file.path, name=name, num_bytes=file.size, modified=file.modified)
            for name, file in zip(names, page)
        ]


def read_footer(file: StoredLabels) -> tuple[pq.FileMetaData, int]:
    """Parquet's footer, by one or two small requests, and the bytes that these fetched. Raises as `LabelScan` does."""
    tail = _read_range(file, max(0, file.num_bytes - _TAIL_BYTES), file.num_bytes)
    num_bytes_read = len(tail)
    length = int.from_bytes(tail[-_FOOTER_END:-4], "little") + _FOOTER_END
    if len(tail) < length <= file.num_bytes:
        tail = _read_range(file, file.num_bytes - length, file.num_bytes)
        num_bytes_read += len(tail)
    return _parse_footer(file, tail), num_bytes_read


def _parse_footer(file: StoredLabels, tail: bytes) -> pq.FileMetaData:
    try:
        return pq.read_metadata(pa.BufferReader(tail))  # Arrow looks from the end, and at nothing else
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptLabels(f"{file.name} cannot be read: {error}") from error


def _read_range(file: StoredLabels, start: int, stop: int) -> bytes:
    uri = file.fs.unstrip_protocol(file.path)
    if (start, stop) == (0, file.num_bytes):
        data = read_path(file.fs, file.path, uri)
    else:
        data = attempt("read", uri, partial(file.fs.cat_file, file.path, start=start, end=stop))
    if data is None:
        raise StoreError(f"{file.name} was listed and is gone: nothing may remove label files meanwhile")
    if len(data) != stop - start:
        raise CorruptLabels(f"{file.name} is not as long as listed ({file.num_bytes} bytes)")
    return data


class _ForwardFile(io.RawIOBase):
    """A stored file as Arrow reads it: forwards only, so a block at a time is fetched, hashed and forgotten.

    Offsets come from Arrow's requests, not from the footer's: pyarrow 26 ends the process at some that are damaged.
    asked_from_start: where the requests end that follow each other from the file's start on; beyond the file after one
    that does not.
    """

    def __init__(self, file: StoredLabels, whole: bytes) -> None:
        self._file, self._digest, self._at = file, hashlib.sha256(whole), 0
        self._data, self._start, self.num_bytes_read = memoryview(whole), 0, len(whole)
        self.asked_from_start = _MAGIC_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.num_bytes}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = self._file.num_bytes - self._at if size < 0 else size
        stop = self._at + size
        if self._at < self._start or stop > self._file.num_bytes or size > _MOST_AT_ONCE:
            raise OSError(f"no column can be in bytes {self._at} to {stop}")
        self.asked_from_start = stop if self._at == self.asked_from_start else 2 * self._file.num_bytes
        self._fetch(stop)
        found = bytes(self._data[self._at - self._start : stop - self._start])
        self._at = stop
        return found

    def read_to_end(self) -> str:
        """Fetch what is left; the sha256 of all bytes."""
        self._at = self._file.num_bytes
        self._fetch(self._at)
        return self._digest.hexdigest()

    def _fetch(self, stop: int) -> None:
        """Have the bytes up to `stop`, and forget those before the place that is read."""
        while (end := self._start + len(self._data)) < stop:
            new = _read_range(self._file, end, min(end + BLOCK_BYTES, self._file.num_bytes))
            self._digest.update(new)
            self.num_bytes_read += len(new)
            kept = self._data[max(0, self._at - self._start) :]
            self._data, self._start = memoryview(bytes(kept) + new), end - len(kept)
