"""Derived files say what is there and can be rebuilt."""

from __future__ import annotations

import hashlib
import pickle
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.errors import CorruptLabels
from gsvnet.store import manifest
from gsvnet.store.described import describe_files
from gsvnet.store.layout import list_committed
from gsvnet.store.manifest import read_manifest, read_manifest_time, write_derived


@pytest.fixture
def out(tmp_path, write_shard) -> Path:
    out = tmp_path / "out"
    write_shard(str(out), num_frames=10, lost=[3, 4])
    write_shard(str(out), shard=1, first_frame=10, num_frames=5)
    write_shard(str(out), video="night-ba9876543210", uri="night.mp4")
    return out


def test_the_manifest_describes_each_object_as_it_reads_back(out):
    manifest = write_derived(str(out), complete=False)
    assert manifest == read_manifest(str(out))
    entries = manifest.to_pylist()
    assert [entry["path"] for entry in entries] == sorted(str(p.relative_to(out)) for p in out.glob("labels/*/*"))
    for entry in entries:
        data = (out / entry["path"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    second = [entries[1][name] for name in ("rows", "lost", "first_frame", "first_pts", "last_pts")]
    assert second == [5, 0, 10, 5120, 14 * 512]


def test_videos_are_summed_up(out):
    write_derived(str(out), complete=False)
    drive, night = pq.read_table(out / "_videos.parquet").to_pylist()
    assert (drive["frames"], drive["lost"], drive["shards"], drive["height"], drive["width"]) == (15, 2, 2, 12, 20)
    assert (night["uri"], night["frames"]) == ("night.mp4", 10)


def test_a_shard_of_seven_digits_is_its_videos_last(tmp_path, write_shard):
    out = str(tmp_path / "many")
    for number, shard in enumerate((999_998, 999_999, 1_000_000)):
        write_shard(out, shard=shard, first_frame=5 * number, num_frames=5)
    assert write_derived(out, complete=False)["first_frame"].to_pylist() == [0, 5, 10]
    (video,) = pq.read_table(tmp_path / "many/_videos.parquet").to_pylist()
    assert (video["first_pts"], video["last_pts"]) == (0, 14 * 512)


def test_the_time_of_the_manifest_is_the_stores(out):
    assert read_manifest_time(str(out)) == float("inf")
    write_derived(str(out), complete=False)
    assert read_manifest_time(str(out)) == pytest.approx((out / "_manifest.parquet").stat().st_mtime, abs=1e-5)


@pytest.mark.s3
def test_the_time_of_a_manifest_in_a_bucket_is_known(moto_s3):
    out, started = f"s3://{moto_s3.make_bucket()}/out", time.time()
    assert read_manifest_time(out, moto_s3.options) == float("inf")
    write_derived(out, complete=False, storage_options=moto_s3.options)
    assert started - 2 < read_manifest_time(out, moto_s3.options) < time.time() + 2


def test_success_stands_only_while_nothing_is_missing(out):
    write_derived(str(out), complete=True)
    assert (out / "_SUCCESS").exists()
    write_derived(str(out), complete=False)
    assert not (out / "_SUCCESS").exists()


def test_known_objects_are_not_read_again_unless_rebuilt(out):
    before = write_derived(str(out), complete=False)
    path = out / before["path"][0].as_py()
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
    assert len(write_derived(out, complete=True)) == 0
    assert len(read_manifest(out)) == 0
    assert list_committed(out) == set()


def test_an_output_without_labels_has_tables_with_columns(tmp_path):
    write_derived(str(tmp_path), complete=False)
    assert pq.read_table(tmp_path / "_manifest.parquet").column_names[:2] == ["path", "bytes"]
    assert pq.read_table(tmp_path / "_videos.parquet").column_names[:2] == ["video", "uri"]


def test_reading_back_may_run_elsewhere_and_in_any_order(out, monkeypatch):
    monkeypatch.setattr(manifest, "BATCH_FILES", 1)

    def spread(describe, batches):
        carried = [pickle.loads(pickle.dumps((describe, batch))) for batch in batches]
        assert [function for function, _ in carried] == [describe_files] * 3
        return [pickle.loads(pickle.dumps(function(batch))) for function, batch in reversed(carried)]

    elsewhere = write_derived(str(out), complete=False, spread=spread)
    assert elsewhere == write_derived(str(out), complete=False, rebuild=True)
    assert elsewhere["shard"].to_pylist() == ["000000", "000001", "000000"]


def test_row_groups_are_counted(out, monkeypatch, write_shard):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    write_shard(str(out), shard=2, first_frame=15, num_frames=9)
    assert write_derived(str(out), complete=False)["row_groups"].to_pylist() == [1, 1, 3, 1]


def test_a_manifest_of_the_first_version_is_kept_without_row_groups(out):
    table = write_derived(str(out), complete=False)
    pq.write_table(table.drop_columns(["row_groups"]), out / "_manifest.parquet")
    kept = write_derived(str(out), complete=False, spread=lambda describe, batches: [])
    assert kept.drop_columns(["row_groups"]) == table.drop_columns(["row_groups"])
    assert kept["row_groups"].to_pylist() == [None] * 3


@pytest.mark.parametrize("data", [b"", b"no parquet"])
def test_what_is_no_label_file_is_named(out, data):
    (out / "labels/night-ba9876543210/000000.parquet").write_bytes(data)
    with pytest.raises(CorruptLabels, match=r"night-ba9876543210/000000\.parquet cannot be read"):
        write_derived(str(out), complete=False)


def test_only_new_files_are_read(out, write_shard):
    write_derived(str(out), complete=False)
    write_shard(str(out), shard=2, first_frame=15, num_frames=5)
    read = []

    def spread(describe, batches):
        for batch in batches:
            read.extend(batch.paths)
            yield describe(batch)

    assert len(write_derived(str(out), complete=True, spread=spread)) == 4
    assert read == ["labels/drive-0123456789ab/000002.parquet"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_stopped_at_any_step_it_leaves_no_success_and_the_next_call_makes_all_anew(out, monkeypatch, write_shard, step):
    write_derived(str(out), complete=True)
    write_shard(str(out), shard=2, first_frame=15, num_frames=5)
    written = []

    def replace_or_stop(data, uri, storage_options):
        if len(written) == step:
            raise KeyboardInterrupt
        written.append(uri)
        replace(data, uri, storage_options)

    replace = manifest.replace_bytes
    monkeypatch.setattr(manifest, "replace_bytes", replace_or_stop)
    with pytest.raises(KeyboardInterrupt):
        write_derived(str(out), complete=True)
    assert not (out / "_SUCCESS").exists()
    monkeypatch.setattr(manifest, "replace_bytes", replace)
    assert len(write_derived(str(out), complete=True)) == 4
    assert (out / "_SUCCESS").exists()
    assert pq.read_table(out / "_videos.parquet")["frames"].to_pylist() == [20, 10]


def test_options_with_secrets_are_not_shown(out):
    from gsvnet.store.described import LabelFiles

    files = LabelFiles(out=str(out), job="", paths=(), sizes=(), storage_options={"secret": "secretword"})
    assert "secretword" not in repr(files)


@pytest.mark.parametrize(("name", "value"), [("path", None), ("shard", None), ("shard", "²"), ("first_frame", None)])
def test_a_manifest_with_entries_that_are_none_counts_as_none(out, name, value):
    write_derived(str(out), complete=False)
    path = out / "_manifest.parquet"
    entries = pq.read_table(path)
    column = pa.array([value, *entries[name].to_pylist()[1:]], entries[name].type)
    pq.write_table(entries.set_column(entries.column_names.index(name), name, column), path)
    assert len(read_manifest(str(out))) == 0
