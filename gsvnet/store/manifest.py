"""Derived files of an output: what is there, per object and per video. The job never reads them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from gsvnet.errors import CorruptLabels
from gsvnet.store.filesystem import StorageOptions, open_filesystem, read_bytes
from gsvnet.store.layout import MANIFEST, SUCCESS, VIDEOS, derived_uri, list_label_files, split_shard_path
from gsvnet.store.publish import replace_bytes
from gsvnet.store.schema import parse_footer


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """One label file. path: below the output. sha256: of the object as read back. lost: rows without labels."""

    path: str
    bytes: int
    sha256: str
    rows: int
    lost: int
    video: str
    uri: str
    shard: str
    first_frame: int
    first_pts: int
    last_pts: int
    time_base: str
    height: int
    width: int


_TEXT = ("path", "sha256", "video", "uri", "shard", "time_base")
_VIDEO_COLUMNS = (
    *("video", "uri", "frames", "lost", "shards", "bytes"),
    *("first_pts", "last_pts", "time_base", "height", "width"),
)


def _schema(names: Iterable[str]) -> pa.Schema:
    return pa.schema([(name, pa.string() if name in _TEXT else pa.int64()) for name in names])


_MANIFEST_SCHEMA = _schema(field.name for field in fields(ManifestEntry))
_VIDEOS_SCHEMA = _schema(_VIDEO_COLUMNS)


def write_derived(
    out: str, *, complete: bool, storage_options: StorageOptions = None, rebuild: bool = False
) -> list[ManifestEntry]:
    """Write `_manifest.parquet`, `_videos.parquet` and, only if `complete`, `_SUCCESS`; the manifest's entries.

    Label files never change, so those in an older manifest with the same size are not read again, unless `rebuild`.
    """
    fs, _ = open_filesystem(out, storage_options)
    _remove(fs, derived_uri(out, SUCCESS), storage_options)
    known = {} if rebuild else {entry.path: entry for entry in read_manifest(out, storage_options)}
    paths = list_label_files(out, storage_options)

    def describe_file(path: str) -> ManifestEntry:
        entry = known.get("/".join(("labels", *split_shard_path(path))) + ".parquet")
        return entry if entry is not None and entry.bytes == fs.size(path) else _describe(fs, path)

    with ThreadPoolExecutor(max_workers=8) as pool:
        entries = list(pool.map(describe_file, paths))
    manifest = [asdict(entry) for entry in entries]
    _write_table(derived_uri(out, MANIFEST), manifest, _MANIFEST_SCHEMA, storage_options)
    _write_table(derived_uri(out, VIDEOS), list(_summarise(entries)), _VIDEOS_SCHEMA, storage_options)
    if complete:
        replace_bytes(b"", derived_uri(out, SUCCESS), storage_options)
    return entries


def read_manifest(out: str, storage_options: StorageOptions = None) -> list[ManifestEntry]:
    """Entries of the stored manifest; none when there is none or it cannot be read: it is derived."""
    data = read_bytes(derived_uri(out, MANIFEST), storage_options)
    if not data:
        return []
    try:
        return [ManifestEntry(**record) for record in pq.read_table(io.BytesIO(data)).to_pylist()]
    except (pa.ArrowException, OSError, TypeError):
        return []


def _describe(fs: AbstractFileSystem, path: str) -> ManifestEntry:
    data = fs.cat_file(path)
    video, shard = split_shard_path(path)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        footer, _ = parse_footer(file.metadata.metadata, path)
        table = file.read(["pts", "status", "height", "width"])
    except (pa.ArrowException, OSError) as error:
        raise CorruptLabels(f"{path} cannot be read: {error}") from error
    pts = table["pts"]
    return ManifestEntry(
        path=f"labels/{video}/{shard}.parquet",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        rows=len(table),
        lost=sum(status != "ok" for status in table["status"].to_pylist()),
        video=video,
        uri=footer.uri,
        shard=shard,
        first_frame=footer.first_frame,
        first_pts=pts[0].as_py(),
        last_pts=pts[-1].as_py(),
        time_base=footer.time_base,
        height=table["height"][0].as_py(),
        width=table["width"][0].as_py(),
    )


def _summarise(entries: list[ManifestEntry]) -> Iterator[dict]:
    """One record per video. frames: labelled or lost; entries come sorted by video and shard."""
    for video, group in groupby(entries, key=lambda entry: entry.video):
        shards = list(group)
        yield {
            "video": video,
            "uri": shards[0].uri,
            "frames": sum(s.rows for s in shards),
            "lost": sum(s.lost for s in shards),
            "shards": len(shards),
            "bytes": sum(s.bytes for s in shards),
            "first_pts": shards[0].first_pts,
            "last_pts": shards[-1].last_pts,
            "time_base": shards[0].time_base,
            "height": shards[0].height,
            "width": shards[0].width,
        }


def _write_table(uri: str, records: list[dict], schema: pa.Schema, storage_options: StorageOptions) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=schema), sink, compression="zstd")
    replace_bytes(sink.getvalue(), uri, storage_options)


def _remove(fs: AbstractFileSystem, uri: str, storage_options: StorageOptions) -> None:
    _, path = open_filesystem(uri, storage_options)
    if fs.exists(path):
        fs.rm_file(path)
