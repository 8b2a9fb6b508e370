"""Derived files say what is there and can be rebuilt."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gsvnet.errors import CorruptLabels
from gsvnet.store.layout import list_committed
from gsvnet.store.manifest import read_manifest, write_derived


@pytest.fixture
def out(tmp_path, write_shard) -> Path:
    out = tmp_path / "out"
    write_shard(str(out), num_frames=10, lost=[3, 4])
    write_shard(str(out), shard=1, first_frame=10, num_frames=5)
    write_shard(str(out), video="night-ba9876543210", uri="night.mp4")
    return out


def test_the_manifest_describes_each_object_as_it_reads_back(out):
    entries = write_derived(str(out), complete=False)
    assert entries == read_manifest(str(out))
    assert [entry.path for entry in entries] == sorted(str(p.relative_to(out)) for p in out.glob("labels/*/*"))
    for entry in entries:
        data = (out / entry.path).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    second = entries[1]
    assert (second.rows, second.first_frame, second.first_pts, second.last_pts) == (5, 10, 5120, 14 * 512)


def test_videos_are_summed_up(out):
    write_derived(str(out), complete=False)
    drive, night = pq.read_table(out / "_videos.parquet").to_pylist()
    assert (drive["frames"], drive["lost"], drive["shards"], drive["height"], drive["width"]) == (15, 2, 2, 12, 20)
    assert (night["uri"], night["frames"]) == ("night.mp4", 10)


def test_success_stands_only_while_nothing_is_missing(out):
    write_derived(str(out), complete=True)
    assert (out / "_SUCCESS").exists()
    write_derived(str(out), complete=False)
    assert not (out / "_SUCCESS").exists()


def test_known_objects_are_not_read_again_unless_rebuilt(out):
    before = write_derived(str(out), complete=False)
    path = out / before[0].path
    path.write_bytes(bytes(path.stat().st_size))
    assert write_derived(str(out), complete=False) == before
    with pytest.raises(CorruptLabels, match=r"000000\.parquet"):
        write_derived(str(out), complete=False, rebuild=True)


def test_a_damaged_manifest_is_made_anew(out):
    before = write_derived(str(out), complete=False)
    (out / "_manifest.parquet").write_bytes(b"damaged")
    assert write_derived(str(out), complete=False) == before


def test_an_output_without_labels_has_an_empty_manifest():
    out = f"memory://{uuid.uuid4().hex}"
    assert write_derived(out, complete=True) == []
    assert read_manifest(out) == []
    assert list_committed(out) == set()


def test_an_output_without_labels_has_tables_with_columns(tmp_path):
    write_derived(str(tmp_path), complete=False)
    assert pq.read_table(tmp_path / "_manifest.parquet").column_names[:2] == ["path", "bytes"]
    assert pq.read_table(tmp_path / "_videos.parquet").column_names[:2] == ["video", "uri"]
