"""Derived files of an output: what is there, per object and per video. The job never reads them.

Entries are Arrow columns and sizes come from the listing. `python tests/store/measure_scale.py 60`: 600,000 label files
need 6 s of one core and a peak of 0.8 GB in this process, beside reading back those that an older manifest lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gsvnet.store.described import MANIFEST_SCHEMA, LabelFiles, describe_files, table_schema
from gsvnet.store.faults import attempt
from gsvnet.store.filesystem import StorageOptions, open_filesystem, read_bytes, remove_path
from gsvnet.store.job import read_job
from gsvnet.store.layout import MANIFEST, SUCCESS, VIDEOS, derived_uri, list_label_pages, split_shard_path
from gsvnet.store.listing import StoredFile
from gsvnet.store.publish import replace_bytes
from gsvnet.store.threads import map_in_threads

Spread = Callable[[Callable[[LabelFiles], pa.RecordBatch], Iterable[LabelFiles]], Iterable[pa.RecordBatch]]

BATCH_FILES = 64
_THREADS = 8
_ROW_GROUP_ROWS = 2**16  # keeps what the writer holds at once small
_LISTED_SCHEMA = table_schema(("path", "bytes"))
_VIDEOS_SCHEMA = table_schema(
    ("video", "uri", "frames", "lost", "shards", "bytes", "first_pts", "last_pts", "time_base", "height", "width")
)


def spread_over_threads(
    describe: Callable[[LabelFiles], pa.RecordBatch], batches: Iterable[LabelFiles]
) -> Iterator[pa.RecordBatch]:
    """`describe` of each batch, by eight threads of this process."""
    return map_in_threads(describe, batches, num_threads=_THREADS)


def write_derived(
    out: str,
    *,
    complete: bool,
    storage_options: StorageOptions = None,
    rebuild: bool = False,
    spread: Spread = spread_over_threads,
) -> pa.Table:
    """Write `_manifest.parquet`, `_videos.parquet` and, only if `complete`, `_SUCCESS`; the manifest's table.

    Label files never change, so those in an older manifest with the same size are not read again, unless `rebuild`.
    spread: a map that may run elsewhere, in any order; its function and batches can be pickled.
    Raises CorruptLabels, StoreUnavailable, StoreRefused, StoreError; then the same call begins anew.
    """
    remove_success(out, storage_options)
    listed = _list_labels(out, storage_options)
    known = MANIFEST_SCHEMA.empty_table() if rebuild else read_manifest(out, storage_options)
    kept, new = _split_known(listed, known)
    job = read_job(out, storage_options).fingerprint if len(new) else ""
    starts = range(0, len(new), BATCH_FILES)
    batches = (
        LabelFiles(
            out=out,
            job=job,
            paths=tuple(new["path"].slice(i, BATCH_FILES).to_pylist()),
            sizes=tuple(new["bytes"].slice(i, BATCH_FILES).to_pylist()),
            storage_options=storage_options,
        )
        for i in starts
    )
    described = pa.Table.from_batches(spread(describe_files, batches), schema=MANIFEST_SCHEMA)
    manifest = _sort(pa.concat_tables([kept, described]))
    del listed, known, kept, new, described  # a second copy of all entries
    _write_table(derived_uri(out, MANIFEST), manifest, storage_options)
    _write_table(derived_uri(out, VIDEOS), _sum_up(manifest), storage_options)
    if complete:
        replace_bytes(b"", derived_uri(out, SUCCESS), storage_options)
    return manifest


def remove_success(out: str, storage_options: StorageOptions = None) -> None:
    """Take `_SUCCESS` away: from now on something is missing."""
    success = derived_uri(out, SUCCESS)
    remove_path(*open_filesystem(success, storage_options), success)


def read_manifest(out: str, storage_options: StorageOptions = None) -> pa.Table:
    """The stored manifest; an empty one when there is none or it cannot be read: it is derived.

    row_groups is null in entries of the program's first version.
    """
    data = read_bytes(derived_uri(out, MANIFEST), storage_options)
    try:
        table = pq.read_table(pa.BufferReader(data or b""))
        if "row_groups" not in table.column_names:
            table = table.append_column("row_groups", pa.nulls(len(table), pa.int64()))
        table = table.select(MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA)
        return table if _is_whole(table) else MANIFEST_SCHEMA.empty_table()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return MANIFEST_SCHEMA.empty_table()


def read_manifest_time(out: str, storage_options: StorageOptions = None) -> float:
    """When the stored manifest was written, in seconds since 1970; infinity where the store does not say."""
    uri = derived_uri(out, MANIFEST)
    fs, path = open_filesystem(uri, storage_options)

    def read() -> float:
        try:
            fs.invalidate_cache()
            return float(fs.modified(path).timestamp())
        except (NotImplementedError, FileNotFoundError):
            return float("inf")

    return attempt("read", uri, read)


def _is_whole(manifest: pa.Table) -> bool:
    """Whether every entry has all its values, and the name of a shard."""
    complete = not any(manifest[name].null_count for name in MANIFEST_SCHEMA.names if name != "row_groups")
    return complete and pc.all(pc.match_substring_regex(manifest["shard"], "^[0-9]{6,7}$"), min_count=0).as_py()


def _sort(manifest: pa.Table) -> pa.Table:
    """Entries in the order of videos and frames: shard 1000000 after 999999."""
    lengths = manifest.append_column("length", pc.utf8_length(manifest["shard"]))
    order = pc.sort_indices(lengths, [(name, "ascending") for name in ("video", "length", "shard")])
    return manifest.take(order)


def _list_labels(out: str, storage_options: StorageOptions) -> pa.Table:
    """Paths below the output and sizes of all label files."""

    def to_batch(page: list[StoredFile]) -> pa.RecordBatch:
        paths = ["labels/{}/{}.parquet".format(*split_shard_path(file.path)) for file in page]
        return pa.record_batch([paths, [file.size for file in page]], schema=_LISTED_SCHEMA)

    return pa.Table.from_batches(map(to_batch, list_label_pages(out, storage_options)), schema=_LISTED_SCHEMA)


def _split_known(listed: pa.Table, known: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The known entries of listed files that have the same size still, and the other listed files."""
    at = pc.index_in(listed["path"], value_set=known["path"].combine_chunks())
    same = pc.fill_null(pc.equal(known["bytes"].take(at), listed["bytes"]), False)
    kept = pc.is_in(known["path"], value_set=listed["path"].filter(same).combine_chunks())
    return known.filter(kept), listed.filter(pc.invert(same))


def _sum_up(manifest: pa.Table) -> pa.Table:
    """One row per video of a sorted manifest. frames: labelled or lost. bytes: its rows' part of those of its files."""
    rows_of = manifest.group_by("path").aggregate([("rows", "sum")])
    at = pc.index_in(manifest["path"], value_set=rows_of["path"].combine_chunks())
    own_bytes = pc.divide(pc.multiply(manifest["bytes"], manifest["rows"]), rows_of["rows_sum"].take(at))
    manifest = manifest.set_column(manifest.column_names.index("bytes"), "bytes", own_bytes)
    first = [(name, "first") for name in ("uri", "first_pts", "time_base", "height", "width")]
    sums = [(name, "sum") for name in ("rows", "lost", "bytes")]
    grouped = manifest.group_by("video", use_threads=False)  # one thread keeps the order that "first" goes by
    videos = grouped.aggregate([*first, *sums, ("path", "count"), ("last_pts", "last")])
    names = {"rows_sum": "frames", "path_count": "shards", "last_pts_last": "last_pts"}
    plain = [names.get(name, name.removesuffix("_first").removesuffix("_sum")) for name in videos.column_names]
    return videos.rename_columns(plain).select(_VIDEOS_SCHEMA.names).cast(_VIDEOS_SCHEMA)


def _write_table(uri: str, table: pa.Table, storage_options: StorageOptions) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    replace_bytes(sink.getvalue().to_pybytes(), uri, storage_options)
