"""A local file system that notes which bytes are read, for engines that take one of fsspec."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

TAIL_BYTES = 2**16  # what engines read of a file's end before they know how long its footer is

Read = tuple[str, int, int]  # path, start, stop


class CountingFileSystem(LocalFileSystem):
    """Files under counted:///...; `reads` holds what was read of them, whatever any cache of the system did."""

    protocol = "counted"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Read] = []

    def open(self, path, mode="rb", **options):
        return _CountedFile(self._strip_protocol(path), self.reads)

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("counted://"))

    def unstrip_protocol(self, name):
        return f"counted://{self._strip_protocol(name)}"


class _CountedFile(io.RawIOBase):
    """Each thread has its own position: DuckDB 2.0.0 lets several threads seek and read in one file object."""

    def __init__(self, path: str, reads: list[Read]) -> None:
        self._path, self._reads = path, reads
        self._file = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._file).st_size
        self._here = threading.local()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._here.at = offset + (0, self.tell(), self._size)[whence]
        return self._here.at

    def tell(self) -> int:
        return getattr(self._here, "at", 0)

    def readinto(self, buffer) -> int:
        start = self.tell()
        number = os.preadv(self._file, [buffer], start)
        self._reads.append((self._path, start, start + number))
        self._here.at = start + number
        return number

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def num_bytes(reads: list[Read]) -> int:
    return sum(stop - start for _, start, stop in reads)


def reads_of_masks(reads: list[Read]) -> list[Read]:
    """Those that touch a column chunk of masks, of either sort, and are no look at the file's end for its footer."""
    chunks = {path: _mask_chunks(path) for path, _, _ in reads}
    return [
        (path, start, stop)
        for path, start, stop in reads
        if not (stop == (size := Path(path).stat().st_size) and start >= size - TAIL_BYTES)
        and any(start < end and begin < stop for begin, end in chunks[path])
    ]


def _mask_chunks(path: str) -> list[tuple[int, int]]:
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return [
        (c.data_page_offset, c.data_page_offset + c.total_compressed_size)
        for c in columns
        if c.path_in_schema in ("mask", "mask_uncertain")
    ]
