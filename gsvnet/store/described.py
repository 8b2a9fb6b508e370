"""What label files hold, as read back: rows of the manifest. One batch of files at a time, in any process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from gsvnet.chunks import shard_name
from gsvnet.errors import CorruptLabels
from gsvnet.store.columns import check_columns
from gsvnet.store.filesystem import StorageOptions, open_filesystem
from gsvnet.store.scan import LabelScan, StoredLabels
from gsvnet.store.sources import check_job, parse_sources

_TEXT = ("path", "sha256", "video", "uri", "shard", "time_base")


def table_schema(names: Iterable[str]) -> pa.Schema:
    """Columns of a derived table by name: text or int64."""
    return pa.schema([(name, pa.string() if name in _TEXT else pa.int64()) for name in names])


MANIFEST_SCHEMA = table_schema(
    ("path", "bytes", "sha256", "rows", "lost", "video", "uri", "shard")
    + ("first_frame", "first_pts", "last_pts", "time_base", "height", "width", "row_groups")
)
_READ = ("pts", "status", "height", "width")


@dataclass(frozen=True, kw_only=True)
class LabelFiles:
    """Some label files of an output. job: its fingerprint. paths: below it, as in the manifest. sizes: in bytes."""

    out: str
    job: str
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    storage_options: StorageOptions = field(default=None, repr=False)


def describe_files(files: LabelFiles) -> pa.RecordBatch:
    """One row per shard in MANIFEST_SCHEMA; a compacted file holds several.

    path: of its file, below the output. bytes, sha256, row_groups: of that whole file, as read back. lost: rows
    without labels. Raises CorruptLabels for what is no whole label file of the job, StoreUnavailable, StoreRefused,
    StoreError.
    """
    records = [entry for path, size in zip(files.paths, files.sizes) for entry in _describe(files, path, size)]
    return pa.RecordBatch.from_pylist(records, schema=MANIFEST_SCHEMA)


def _describe(files: LabelFiles, path: str, num_bytes: int) -> list[dict[str, Any]]:
    fs, full_path = open_filesystem(f"{files.out.rstrip('/')}/{path}", files.storage_options)
    scan = LabelScan(StoredLabels(fs=fs, path=full_path, name=path, num_bytes=num_bytes))
    sources = parse_sources(scan.metadata.metadata, path)
    check_job(sources, files.job, path)
    num_rows, stated = scan.metadata.num_rows, sum(source.num_rows for source in sources)
    if num_rows != stated or num_rows == 0:
        raise CorruptLabels(f"{path} has {num_rows} rows, its footer says {stated}")
    tables = [group.read(_READ) for group in scan.groups()]
    for number, table in enumerate(tables):
        check_columns(table, sources[0].footer.classes, _READ, f"{path}, row group {number},")
    if sum(map(len, tables)) != num_rows:
        raise CorruptLabels(f"{path} has {sum(map(len, tables))} rows, its footer says {num_rows}")
    table = pa.concat_tables(tables)
    entries = []
    for source in sources:
        rows = table.slice(source.row, source.num_rows)
        entries.append(
            {
                "path": path,
                "bytes": num_bytes,
                "sha256": scan.sha256,
                "rows": len(rows),
                "lost": sum(status == "decode_error" for status in rows["status"].to_pylist()),
                "video": source.footer.video,
                "uri": source.footer.uri,
                "shard": shard_name(source.footer.shard),
                "first_frame": source.first_frame,
                "first_pts": rows["pts"][0].as_py(),
                "last_pts": rows["pts"][-1].as_py(),
                "time_base": source.footer.time_base,
                "height": rows["height"][0].as_py(),
                "width": rows["width"][0].as_py(),
                "row_groups": scan.metadata.num_row_groups,
            }
        )
    return entries
