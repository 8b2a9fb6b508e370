"""What label files hold, as read back: rows of the manifest. One batch of files at a time, in any process."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store.filesystem import StorageOptions, open_filesystem, read_path
from gsvnet.store.layout import split_shard_path
from gsvnet.store.schema import parse_footer

_TEXT = ("path", "sha256", "video", "uri", "shard", "time_base")


def table_schema(names: Iterable[str]) -> pa.Schema:
    """Columns of a derived table by name: text or int64."""
    return pa.schema([(name, pa.string() if name in _TEXT else pa.int64()) for name in names])


MANIFEST_SCHEMA = table_schema(
    ("path", "bytes", "sha256", "rows", "lost", "video", "uri", "shard")
    + ("first_frame", "first_pts", "last_pts", "time_base", "height", "width")
)


@dataclass(frozen=True, kw_only=True)
class LabelFiles:
    """Some label files of an output. paths: below it, as in the manifest."""

    out: str
    paths: tuple[str, ...]
    storage_options: StorageOptions = field(default=None, repr=False)


def describe_files(files: LabelFiles) -> pa.RecordBatch:
    """One row per file in MANIFEST_SCHEMA. path: below the output. sha256: of the object as read back. lost: rows
    without labels.

    Raises CorruptLabels for a file that is no whole label file, StoreUnavailable, StoreRefused, StoreError.
    """
    records = [_describe(files, path) for path in files.paths]
    return pa.RecordBatch.from_pylist(records, schema=MANIFEST_SCHEMA)


def _describe(files: LabelFiles, path: str) -> dict[str, Any]:
    uri = f"{files.out.rstrip('/')}/{path}"
    data = read_path(*open_filesystem(uri, files.storage_options), uri)
    if data is None:
        raise StoreError(f"{path} was listed and is gone: nothing may remove label files while a job runs")
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        footer, _ = parse_footer(file.metadata.metadata, path)
        table = file.read(["pts", "status", "height", "width"])
    except (pa.ArrowException, OSError) as error:
        raise CorruptLabels(f"{path} cannot be read: {error}") from error
    video, shard = split_shard_path(path)
    pts = table["pts"]
    return {
        "path": path,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "rows": len(table),
        "lost": sum(status != "ok" for status in table["status"].to_pylist()),
        "video": video,
        "uri": footer.uri,
        "shard": shard,
        "first_frame": footer.first_frame,
        "first_pts": pts[0].as_py(),
        "last_pts": pts[-1].as_py(),
        "time_base": footer.time_base,
        "height": table["height"][0].as_py(),
        "width": table["width"][0].as_py(),
    }
