"""Prints what listing and describing 600,000 label files cost the driver: `python tests/store/measure_scale.py`.

The listing's pages and what is read back are made up, so this is the work and the memory of this process alone.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from gsvnet.store import layout, manifest
from gsvnet.store.described import MANIFEST_SCHEMA, LabelFiles
from gsvnet.store.listing import StoredFile

NUM_FILES, NUM_BYTES = 600_000, 5_000_000


def main() -> None:
    for per_video in map(int, sys.argv[1:] or ("60", "1")):
        layout.list_pages = lambda uri, options=None, n=per_video: make_pages(n)
        start, before = time.process_time(), memory_mb("VmRSS")
        committed = layout.list_committed("s3://bucket/out")
        took, used = time.process_time() - start, memory_mb("VmRSS") - before
        print(f"{len(committed)} files, {per_video} per video: list_committed {took:.1f} s, {used:.0f} MB")
        with tempfile.TemporaryDirectory() as out:
            for what in ("all new", "all known"):
                start = time.process_time()
                table = manifest.write_derived(out, complete=True, spread=make_up)
                took = time.process_time() - start
                peak = f"peak of the process {memory_mb('VmHWM'):.0f} MB"
                print(f"  write_derived, {what}: {took:.1f} s, {table.nbytes / 2**20:.0f} MB of entries, {peak}")
                del table
                pa.default_memory_pool().release_unused()


def make_pages(per_video: int) -> Iterator[list[StoredFile]]:
    for start in range(0, NUM_FILES, 1000):
        names = (f"front-{i // per_video:012x}/{i % per_video:06d}" for i in range(start, start + 1000))
        yield [StoredFile(f"bucket/out/labels/{name}.parquet", NUM_BYTES) for name in names]


def make_up(describe: object, batches: Iterable[LabelFiles]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield pa.RecordBatch.from_pylist([make_entry(path) for path in batch.paths], schema=MANIFEST_SCHEMA)


def make_entry(path: str) -> dict[str, str | int]:
    video, shard = layout.split_shard_path(path)
    return dict.fromkeys(MANIFEST_SCHEMA.names, 0) | {
        "path": path,
        "bytes": NUM_BYTES,
        "sha256": hashlib.sha256(path.encode()).hexdigest(),
        "video": video,
        "uri": f"s3://videos/{video}.mp4",
        "shard": shard,
        "time_base": "1/12800",
    }


def memory_mb(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()
