"""One file of a compacted output: the rows of several shards one after the other, masks copied as they are."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gsvnet.errors import CorruptLabels, NoSpace, StoreError
from gsvnet.store.columns import check_columns
from gsvnet.store.filesystem import StorageOptions
from gsvnet.store.inspect_file import Expected, check_footer, find_later_columns
from gsvnet.store.inspect_rows import Fault, RowsInspector
from gsvnet.store.publish import publish_file
from gsvnet.store.scan import LabelScan, StoredLabels
from gsvnet.store.schema import (
    ENCODED_MASKS,
    MAX_ROW_GROUP_BYTES,
    MAX_ROW_GROUP_ROWS,
    complete_columns,
    open_label_writer,
)
from gsvnet.store.sources import Source, SourceFile, compacted_metadata, parse_sources
from gsvnet.store.temporary import create_temporary
from gsvnet.store.write import explain_spool_error


@dataclass(frozen=True, kw_only=True)
class CompactedFile:
    """What became visible. num_bytes: of the object. row_groups: how many it has."""

    num_rows: int
    num_bytes: int
    row_groups: int


def write_compacted(
    shards: Sequence[StoredLabels],
    uri: str,
    *,
    expected: Expected,
    spool_dir: str | Path,
    storage_options: StorageOptions = None,
) -> CompactedFile:
    """Publish the rows of shards, in this order, as one file: by a spool file, checked, create-only.

    One row group of each shard is in memory at a time. Row groups are filled across shards.
    Raises CorruptLabels naming a shard that is not sound, NoSpace or ConfigError where the spool cannot be written,
    AlreadyPublished, StoreUnavailable, StoreRefused, StoreError.
    """
    folder = Path(spool_dir)
    needed = sum(shard.num_bytes for shard in shards)
    try:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise NoSpace(
                f"{folder} has {free / 1e6:.0f} MB free, a file may need {needed / 1e6:.0f} MB: free some, or choose "
                "another --spool-dir or a smaller --target-mb"
            )
        spool, file = create_temporary(folder)
    except OSError as error:
        raise explain_spool_error(error, folder) from error
    try:
        with file:
            try:
                written = _write(shards, file, expected)
            except OSError as error:
                raise explain_spool_error(error, folder) from error
            publish_file(spool, uri, storage_options)
        return written
    finally:
        spool.unlink(missing_ok=True)


def _write(shards: Sequence[StoredLabels], file: BinaryIO, expected: Expected) -> CompactedFile:
    sources: list[Source] = []
    writer = open_label_writer(file, expected.classes)
    try:
        for table in _fill_groups(_read_shards(shards, expected, sources)):
            writer.write_table(table)
        writer.add_key_value_metadata(compacted_metadata(sources))
    except BaseException:
        with contextlib.suppress(OSError, pa.ArrowException):
            writer.close()  # of no use to anyone, but frees its memory
        raise
    writer.close()
    file.flush()
    os.fsync(file.fileno())
    return _check(file, sources)


def _read_shards(shards: Iterable[StoredLabels], expected: Expected, sources: list[Source]) -> Iterator[pa.Table]:
    """The rows of the shards, a row group at a time, checked; what each shard is goes to `sources`."""
    for shard in shards:
        try:
            yield from _read_shard(shard, expected, sources)
        except CorruptLabels as error:
            where = "" if str(error).startswith(shard.name) else f"{shard.name}: "
            remedy = "gsvnet verify lists all that is damaged, and the remedy"
            raise CorruptLabels(f"{where}{error}; {remedy}") from error


def _read_shard(shard: StoredLabels, expected: Expected, sources: list[Source]) -> Iterator[pa.Table]:
    scan = LabelScan(shard)
    found, faults = check_footer(scan.metadata, shard.name, expected)
    _stop_at(faults)
    if later := find_later_columns(scan.metadata, expected.classes):
        raise StoreError(
            f"{shard.name} has columns that a copy by this gsvnet would lack ({', '.join(later)}): upgrade gsvnet"
        )
    (own,) = found
    before = sources[-1] if sources else None
    if before and before.footer.video == own.footer.video and before.stop_frame > own.first_frame:
        raise CorruptLabels("has frames of the shard before it")
    inspector = RowsInspector(found, sample=0)
    for group in scan.groups():
        table = group.read()
        check_columns(table, expected.classes, None, f"row group {group.number}")
        table = complete_columns(table, expected.classes)
        inspector.check(table, group.first_row)
        _stop_at(inspector.faults)
        yield table
    origin = SourceFile(path=shard.name, num_bytes=shard.num_bytes, sha256=scan.sha256)
    row = before.row + before.num_rows if before else 0
    sources.append(Source(footer=own.footer, row=row, num_rows=own.num_rows, file=origin))


def _stop_at(faults: Sequence[Fault]) -> None:
    for fault in faults:
        if fault.kind == "newer":
            raise StoreError(fault.message)
        raise CorruptLabels(fault.message)


def _fill_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in row groups as full as a shard's writer makes them."""
    waiting: list[pa.Table] = []
    rows = num_bytes = 0
    for table in tables:
        while len(table):
            sizes = sum(
                pc.fill_null(pc.binary_length(table[name]), 0).to_numpy().astype(np.int64) for name in ENCODED_MASKS
            )
            full = int(np.searchsorted(num_bytes + sizes.cumsum(), MAX_ROW_GROUP_BYTES)) + 1
            taken = min(MAX_ROW_GROUP_ROWS - rows, full, len(table))
            waiting.append(table.slice(0, taken))
            rows, num_bytes, table = rows + taken, num_bytes + int(sizes[:taken].sum()), table.slice(taken)
            if rows >= MAX_ROW_GROUP_ROWS or num_bytes >= MAX_ROW_GROUP_BYTES:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, rows, num_bytes = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _check(file: BinaryIO, sources: Sequence[Source]) -> CompactedFile:
    """Read the spool's footer back: what is published can be opened and is whole."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    metadata = pq.read_metadata(file)
    if parse_sources(metadata.metadata, "the spool") != tuple(sources):
        raise CorruptLabels("the spool's footer does not read back as it was written")
    if metadata.num_rows != sum(source.num_rows for source in sources):
        raise CorruptLabels(f"the spool holds {metadata.num_rows} rows, others were written")
    return CompactedFile(num_rows=metadata.num_rows, num_bytes=num_bytes, row_groups=metadata.num_row_groups)
