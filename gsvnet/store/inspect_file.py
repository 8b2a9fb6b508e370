"""Whether a label file is what its job, its name and its own footer say: by the footer alone, or by all of it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.chunks import shard_name
from gsvnet.classes import ClassSet
from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store.columns import check_columns
from gsvnet.store.inspect_rows import Fault, RowsInspector
from gsvnet.store.job import JobRecord
from gsvnet.store.layout import split_shard_path
from gsvnet.store.scan import LabelScan, StoredLabels, read_footer
from gsvnet.store.schema import PREFIX, complete_columns, first_schema, label_schema
from gsvnet.store.sources import Source, is_compacted, other_job, parse_sources


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What all label files of an output have in common. job: fingerprint. is_compacted: several shards per file."""

    job: str
    model_hash: str
    classes: ClassSet
    is_compacted: bool

    @classmethod
    def of(cls, record: JobRecord) -> Expected:
        """What the files of this job's output have in common."""
        return cls(
            job=record.fingerprint,
            model_hash=record.model_hash,
            classes=record.classes,
            is_compacted=record.compacted is not None,
        )


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What was found in a label file.

    sources: its shards; none where its footer does not say, or says that it belongs elsewhere. num_bytes_read: bytes.
    times: first and last pts of each source; none, like sha256 and num_decoded (masks), where rows were not read.
    """

    sources: tuple[Source, ...] = ()
    num_rows: int = 0
    num_bytes_read: int
    faults: tuple[Fault, ...]
    times: tuple[tuple[int, int] | None, ...] = ()
    sha256: str = ""
    num_decoded: int = 0


def inspect_footer(file: StoredLabels, expected: Expected) -> Inspected:
    """What the footer of a label file says, and its faults. file.name: its path below the output.

    Raises StoreUnavailable, StoreRefused, StoreError where the store does not answer.
    """
    try:
        metadata, num_bytes_read = read_footer(file)
    except CorruptLabels as error:
        return Inspected(num_bytes_read=0, faults=(_damaged(error),))
    sources, faults = check_footer(metadata, file.name, expected)
    return Inspected(sources=sources, num_rows=metadata.num_rows, num_bytes_read=num_bytes_read, faults=faults)


def inspect_whole(file: StoredLabels, expected: Expected, *, sample: int) -> Inspected:
    """What a label file holds: all its bytes read once, all pages decoded, and `sample` masks of each shard.

    Raises as `inspect_footer` does.
    """
    try:
        scan = LabelScan(file)
    except CorruptLabels as error:
        return Inspected(num_bytes_read=0, faults=(_damaged(error),))
    sources, faults = check_footer(scan.metadata, file.name, expected)
    inspector = RowsInspector(sources, sample=sample)
    num_rows = 0
    try:
        for group in scan.groups():
            try:
                table = group.read()
                num_rows += len(table)
                if not sources:  # it belongs elsewhere, and only damage is of interest
                    continue
                check_columns(table, expected.classes, None, f"row group {group.number}")
                inspector.check(complete_columns(table, expected.classes), group.first_row)
            except CorruptLabels as error:
                inspector.skip(group.first_row, scan.metadata.row_group(group.number).num_rows, str(error))
    except CorruptLabels as error:
        faults += (_damaged(error),)
    faults += inspector.faults
    if not faults and num_rows != scan.metadata.num_rows:
        faults = (Fault(kind="damaged", message=f"{num_rows} rows can be read of {scan.metadata.num_rows}"),)
    if not faults and not scan.is_seamless:
        faults = (Fault(kind="damaged", message="its columns do not lie one after the other, as they were written"),)
    return Inspected(
        sources=sources,
        num_rows=scan.metadata.num_rows,
        num_bytes_read=scan.num_bytes_read,
        faults=faults,
        times=tuple(inspector.times.get(number) for number in range(len(sources))),
        sha256=scan.sha256,
        num_decoded=inspector.num_decoded,
    )


def check_footer(
    metadata: pq.FileMetaData, name: str, expected: Expected
) -> tuple[tuple[Source, ...], tuple[Fault, ...]]:
    """The sources of a label file and the faults of its footer; no sources where it is foreign or unreadable.

    name: its path below the output.
    """
    keys = metadata.metadata or {}
    if not any(key.startswith(PREFIX.encode()) for key in keys):
        return (), (Fault(kind="foreign", message=f"{name} is a Parquet file of another program"),)
    try:
        sources = parse_sources(keys, name)
        columns = metadata.schema.to_arrow_schema()
    except (CorruptLabels, pa.ArrowException) as error:
        return (), (_damaged(error),)
    except StoreError as error:
        return (), (Fault(kind="newer", message=str(error)),)
    foreign = _find_foreign(sources, is_compacted(keys), columns, name, expected)
    if foreign is not None:
        return (), (Fault(kind="foreign", message=f"{name} {foreign}"),)
    stated = sum(source.num_rows for source in sources)
    if stated != metadata.num_rows or any(source.num_rows < 1 for source in sources):
        return sources, (
            Fault(kind="damaged", message=f"{name} has {metadata.num_rows} rows, its footer says {stated}"),
        )
    return sources, ()


def _find_foreign(
    sources: tuple[Source, ...], compacted: bool, columns: pa.Schema, name: str, expected: Expected
) -> str | None:
    """How a file differs from those of this output; None where it does not."""
    if compacted != expected.is_compacted:
        return "is a compacted file" if compacted else "is no compacted file"
    if (other := other_job(sources, expected.job)) is not None:
        return other
    for source in sources:
        footer = source.footer
        if (footer.model_hash, footer.classes) != (expected.model_hash, expected.classes):
            return "has another model hash or other classes than the job"
        if not compacted and (footer.video, shard_name(footer.shard)) != split_shard_path(name):
            return f"holds shard {shard_name(footer.shard)} of {footer.video}"
    if len(set(columns.names)) < len(columns):
        return "has a column twice"
    first, known = first_schema(expected.classes), label_schema(expected.classes)
    later = list(columns)[len(first) :]  # files have all of those that came later, or none; future ones have more
    if not pa.schema(list(columns)[: len(first)]).equals(first) or not all(column.nullable for column in later):
        return "has other columns than a label file"
    if not all(column.equals(known.field(column.name)) for column in later if column.name in known.names):
        return "has other columns than a label file"
    return None


def find_later_columns(metadata: pq.FileMetaData, classes: ClassSet) -> list[str]:
    """Columns of a sound label file that this version of the program does not know."""
    known = set(label_schema(classes).names)
    return [name for name in metadata.schema.to_arrow_schema().names if name not in known]


def _damaged(error: Exception) -> Fault:
    return Fault(kind="damaged", message=str(error))
