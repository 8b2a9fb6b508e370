"""An output of two videos with five shards each, and what tests do to its files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.classes import CAMVID
from gsvnet.store.job import write_plan
from gsvnet.store.manifest import write_derived
from gsvnet.store.schema import open_label_writer
from tests.drawn import Drawn, write_video


@pytest.fixture(scope="session")
def labeled(tmp_path_factory) -> Path:
    """What a job leaves: 60 frames each of two videos in shards of 12, plans, derived files. Tests copy it."""
    folder = tmp_path_factory.mktemp("labeled")
    out = str(folder / "out")
    for seed, video in enumerate(("drive-0123456789ab", "night-ba9876543210")):
        rng = np.random.default_rng(seed)
        labels = [np.kron(rng.integers(0, 11, (6, 8)), np.ones((12, 12))).astype(np.uint8) for _ in range(60)]
        frames = [Drawn(labels=each, time_s=i / 10) for i, each in enumerate(labels)]
        write_video(out, video, frames, spool=folder / "spool", shard_frames=12)
        write_plan(out, video, {"shards": [{"first_frame": 12 * i, "num_frames": 12} for i in range(5)]})
    write_derived(out, complete=True)
    return folder / "out"


@pytest.fixture
def out(labeled, tmp_path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(labeled, tmp_path / "out"))


def shard_of(out: Path, stem: str, index: int) -> Path:
    """The label file of a shard of the video whose id begins with `stem`."""
    (path,) = out.glob(f"labels/{stem}-*/{index:06d}.parquet")
    return path


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **keys: str) -> None:
    """Write a label file anew with other rows: valid pages with valid checksums, and the footer keys as they were.

    keys: footer keys to change, without their prefix.
    """
    metadata = pq.read_metadata(path).metadata
    table = change(pq.read_table(path, partitioning=None))
    with path.open("wb") as file:
        writer = open_label_writer(file, CAMVID)
        writer.write_table(table)
        found = {key.decode(): value.decode() for key, value in metadata.items()}
        writer.add_key_value_metadata(found | {f"gsvnet.{name}": value for name, value in keys.items()})
        writer.close()


def append_column(path: Path, column: pa.Field) -> None:
    """Write a label file anew with one column more, as a later version of the program may."""
    metadata = pq.read_metadata(path).metadata
    table = pq.read_table(path, partitioning=None)
    values = pa.repeat(pa.scalar(1, column.type), len(table))
    table = table.append_column(column, values).replace_schema_metadata(None)
    with pq.ParquetWriter(path, table.schema, write_page_checksum=True, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def column_chunk(path: Path, column: str) -> tuple[int, int]:
    """Bytes [start, stop) of a column's data in the first row group."""
    group = pq.read_metadata(path).row_group(0)
    (chunk,) = [c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start, start + chunk.total_compressed_size
