"""Arrow datasets that DuckDB can read through a file system written in Python, without waiting for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads


def unlock(dataset: pads.FileSystemDataset) -> pads.FileSystemDataset:
    """The same dataset, whose scans begin without the interpreter's lock.

    DuckDB asks a scanner for a reader, and pyarrow (26.0.1) keeps the lock while it starts the scan. Its threads need
    the lock to open files by fsspec, and may have in hand what the start waits for: then the process hangs, deaf to
    signals. It happens seldom, and only where the file system is Python's: in buckets.
    """
    fragments = list(dataset.get_fragments())
    return _Unlocked(fragments, dataset.schema, dataset.format, dataset.filesystem, dataset.partition_expression)


class _Unlocked(pads.FileSystemDataset):
    def scanner(self, **options: Any) -> _UnlockedScanner:
        return _UnlockedScanner(super().scanner(**options))


@dataclass(frozen=True)
class _UnlockedScanner:
    """What of a scanner DuckDB and Arrow itself use; the others are the scanner's own."""

    scanner: pads.Scanner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scanner, name)

    def to_reader(self) -> pa.RecordBatchReader:
        batches = (tagged.record_batch for tagged in self.scanner.scan_batches())
        return pa.RecordBatchReader.from_batches(self.scanner.projected_schema, batches)
