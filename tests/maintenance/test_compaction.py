"""`gsvnet compact` copies an output into few files that read, query and verify like their source."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.cli import main
from gsvnet.errors import ConfigError, CorruptLabels, NoSpace, OutputConflict, StoreError
from gsvnet.maintenance import compaction
from gsvnet.maintenance.compaction import check_apart, compact_output, pack_shards
from gsvnet.maintenance.config import CompactConfig, VerifyConfig
from gsvnet.maintenance.verification import verify_output
from gsvnet.store import compact_file, job
from gsvnet.store.job import FailureRecord, open_job, read_job, write_failure, write_plan
from gsvnet.store.manifest import read_manifest
from gsvnet.store.read import open_labels
from gsvnet.store.scan import StoredLabels
from gsvnet.store.sources import parse_sources
from tests.drawn import Drawn, write_video
from tests.maintenance.conftest import append_column, column_chunk, flip_byte, shard_of
from tests.store.older import take_later_columns_away

FEW = 0.045  # MB: about four files of the output in `varied`


def draw(index: int, seed: int, size: tuple[int, int]) -> np.ndarray:
    """Labels that differ from frame to frame."""
    rng = np.random.default_rng(1000 * seed + index)
    return rng.integers(0, 11, size).astype(np.uint8)


@pytest.fixture
def varied(tmp_path) -> Path:
    """Four videos of several sizes: lost frames, a gap, single frames, no keyframes, a name in another script."""
    out, spool = str(tmp_path / "varied"), tmp_path / "spool"
    write_video(out, "a-000000000001", drawn(40, 1, (12, 20), lost=(0, 7, 39)), spool=spool, shard_frames=9)
    write_video(out, "b-000000000002", drawn(6, 2, (9, 14)), spool=spool, shard_frames=1)
    write_video(out, "c-000000000003", drawn(10, 3, (12, 20)), spool=spool, shard_frames=5)
    late = drawn(5, 4, (12, 20), start=20)
    write_video(out, "c-000000000003", late, spool=spool, first_frame=20, first_shard=4)
    write_video(out, "東京-000000000004", drawn(12, 5, (8, 8), interval=None), spool=spool)
    return Path(out)


def drawn(num: int, seed: int, size, *, lost=(), start: int = 0, interval: int | None = 5) -> list[Drawn]:
    return [
        Drawn(
            labels=None if i in lost else draw(i, seed, size),
            time_s=(start + i) / 10,
            size=size,
            interval=interval,
        )
        for i in range(num)
    ]


def compact(out, to, **options):
    return compact_output(CompactConfig(out=str(out), to=str(to), **{"target_mb": FEW} | options))


def files_of(out) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(Path(out).rglob("*")) if path.is_file()}


def played_at(labels, video, second) -> int | str:
    """The frame on screen, or why there is none."""
    try:
        return int(labels.frames_played_at(video, [second])[0])
    except StoreError as error:
        return str(error)


def without_rows(sources):
    return [(each.footer, each.first_frame, each.num_rows) for each in sources]


@pytest.mark.parametrize("group_rows", [1, 7, 512])
@pytest.mark.parametrize("target_mb", [1e-6, FEW, 100])
def test_a_copy_reads_like_its_source_by_every_method(varied, tmp_path, monkeypatch, group_rows, target_mb):
    monkeypatch.setattr(compact_file, "MAX_ROW_GROUP_ROWS", group_rows)
    result = compact(varied, tmp_path / "to", target_mb=target_mb)
    assert result.files == len(open_labels(str(tmp_path / "to")).paths)
    assert result.files in {1e-6: [15], FEW: [3, 4, 5], 100: [1]}[target_mb]
    source, copy = open_labels(str(varied)), open_labels(str(tmp_path / "to"))
    assert copy.videos == source.videos
    order = [("video", "ascending"), ("frame_index", "ascending")]
    assert copy.frames.to_table() == source.frames.to_table().sort_by(order)  # the copy is in order already
    for video in source.videos:
        indices = source.indices(video)
        np.testing.assert_array_equal(copy.indices(video), indices, strict=True)
        np.testing.assert_array_equal(copy.labels_at(video, indices), source.labels_at(video, indices), strict=True)
        shuffled = np.random.default_rng(0).permutation(np.concatenate([indices, indices[::3]]))
        np.testing.assert_array_equal(copy.labels_at(video, shuffled), source.labels_at(video, shuffled), strict=True)
        assert without_rows(copy.sources(video)) == without_rows(source.sources(video))
        assert copy.footer(video) == source.footer(video)
        for name in (video, video.rpartition("-")[0], source.footer(video).uri, f"{video}.mp4"):
            assert copy.find_video(name) == video
        for mine, theirs in zip(copy.stream(video), source.stream(video), strict=True):
            assert (mine.video, mine.row) == (theirs.video, theirs.row)
            np.testing.assert_array_equal(mine.labels, theirs.labels)
        times = [source.row(video, int(index)).time_s for index in indices]
        played = [time_s + shift for time_s in times for shift in (0.0, 0.05)]
        assert [played_at(copy, video, each) for each in played] == [played_at(source, video, each) for each in played]
        np.testing.assert_array_equal(copy.labels_played_at(video, times), source.labels_at(video, indices))
        assert [copy.row(video, int(index)) for index in indices] == [source.row(video, int(i)) for i in indices]
        for wrong in (-1, int(indices[-1]) + 1, 10**9):
            with pytest.raises(StoreError, match=f"no labels of frame {wrong}"):
                copy.labels_at(video, [wrong])
    with pytest.raises(StoreError, match="no labels of frame 12"):
        copy.labels_at("c", [3, 12, 22])
    with pytest.raises(StoreError, match="before a gap"):
        copy.frames_played_at("c", [1.5])


def test_the_documented_glob_gives_the_same_rows(varied, tmp_path):
    compact(varied, tmp_path / "to")
    query = "select * exclude (video, mask), video, mask from '{}/labels/**/*.parquet' order by video, frame_index"
    assert duckdb.sql(query.format(tmp_path / "to")).fetchall() == duckdb.sql(query.format(varied)).fetchall()


def test_masks_are_copied_and_small_shards_fill_row_groups(varied, tmp_path):
    compact(varied, tmp_path / "to", target_mb=100)
    (path,) = (tmp_path / "to").rglob("000000.parquet")
    metadata = pq.read_metadata(path)
    assert (metadata.num_rows, metadata.num_row_groups) == (73, 1)
    masks = [
        mask for source in sorted(varied.rglob("labels/*/*")) for mask in pq.read_table(source)["mask"].to_pylist()
    ]
    assert pq.ParquetFile(path).read()["mask"].to_pylist() == masks


@pytest.fixture
def both_kinds(tmp_path) -> Path:
    """A video of three shards with values in all columns; the second was written before the later columns came."""
    rng = np.random.default_rng(0)
    frames = [
        Drawn(
            labels=draw(i, 1, (12, 20)),
            time_s=i / 10,
            drift=(i / 32, [float("nan"), *rng.random(10)]) if i % 5 == 0 else None,
            by_class=rng.random(11),
            uncertain=rng.integers(0, 2, (12, 20)).astype(np.uint8) if i % 5 else None,
        )
        for i in range(15)
    ]
    write_video(str(tmp_path / "both"), "a-000000000001", frames, spool=tmp_path / "spool", shard_frames=5)
    take_later_columns_away(shard_of(tmp_path / "both", "a", 1))
    return tmp_path / "both"


def test_a_copy_of_files_of_both_kinds_has_all_columns_and_masks_byte_for_byte(both_kinds, tmp_path):
    compact(both_kinds, tmp_path / "to", target_mb=100)
    (path,) = (tmp_path / "to").rglob("000000.parquet")
    copy = pq.read_table(path)
    tables = [pq.read_table(shard_of(both_kinds, "a", i), partitioning=None) for i in range(3)]
    for name in copy.column_names:
        expected = [each for t in tables for each in (t[name].to_pylist() if name in t.column_names else [None] * 5)]
        assert copy[name].to_pylist() == expected, name
    assert copy["mask_uncertain"].null_count == 5 + 2
    source, copied = open_labels(str(both_kinds)), open_labels(str(tmp_path / "to"))
    np.testing.assert_array_equal(copied.uncertain_at("a", range(15)), source.uncertain_at("a", range(15)), strict=True)
    assert [copied.row("a", i) for i in range(15)] == [source.row("a", i) for i in range(15)]


@pytest.mark.parametrize("quick", [False, True])
def test_files_of_both_kinds_and_their_copy_are_sound(both_kinds, tmp_path, quick):
    write_plan(
        str(both_kinds), "a-000000000001", {"shards": [{"first_frame": 5 * i, "num_frames": 5} for i in range(3)]}
    )
    compact(both_kinds, tmp_path / "to")
    for out in (both_kinds, tmp_path / "to"):
        result = check(out, quick=quick, sample=5)
        assert (result.exit_code, result.findings, result.masks) == (0, (), 0 if quick else 15)


def test_row_groups_of_a_copy_end_at_the_bytes_of_both_sorts_of_masks(both_kinds, tmp_path, monkeypatch):
    rows = [open_labels(str(both_kinds)).row("a", i) for i in range(5)]
    monkeypatch.setattr(
        compact_file, "MAX_ROW_GROUP_BYTES", sum(len(r.mask) + len(r.mask_uncertain or b"") for r in rows)
    )
    compact(both_kinds, tmp_path / "to", target_mb=100)
    metadata = pq.read_metadata(next((tmp_path / "to").rglob("000000.parquet")))
    assert metadata.row_group(0).num_rows == 5


def test_row_groups_end_at_their_bytes_too(tmp_path, monkeypatch):
    frames = drawn(20, 1, (40, 40))
    write_video(str(tmp_path / "out"), "a-0", frames, spool=tmp_path / "spool", shard_frames=3)
    size = len(pq.read_table(tmp_path / "out/labels/a-0/000000.parquet")["mask"][0].as_py())
    monkeypatch.setattr(compact_file, "MAX_ROW_GROUP_BYTES", 4 * size - 200)
    compact(tmp_path / "out", tmp_path / "to", target_mb=100)
    metadata = pq.read_metadata(next((tmp_path / "to").rglob("000000.parquet")))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 4, 4, 4]


def test_footers_list_the_sources(varied, tmp_path):
    compact(varied, tmp_path / "to", target_mb=100)
    (path,) = (tmp_path / "to").rglob("000000.parquet")
    sources = parse_sources(pq.read_metadata(path).metadata, "x")
    originals = sorted(varied.rglob("labels/*/*"))
    assert [source.file.path for source in sources] == [str(path.relative_to(varied)) for path in originals]
    assert [source.file.num_bytes for source in sources] == [path.stat().st_size for path in originals]
    manifest = read_manifest(str(tmp_path / "to"))
    assert set(manifest["path"].to_pylist()) == {"labels/compacted/000000.parquet"}
    assert sources[3].file.sha256 != sources[4].file.sha256


def test_derived_files_describe_each_shard(varied, tmp_path):
    compact(varied, tmp_path / "to", target_mb=100)
    manifest = read_manifest(str(tmp_path / "to"))
    (path,) = (tmp_path / "to").rglob("000000.parquet")
    assert set(manifest["bytes"].to_pylist()) == {path.stat().st_size}
    assert manifest["rows"].to_pylist() == [9, 9, 9, 9, 4, *[1] * 6, 5, 5, 5, 12]
    assert manifest["shard"].to_pylist()[:3] == ["000000", "000001", "000002"]
    assert set(manifest["row_groups"].to_pylist()) == {1}
    videos = pq.read_table(tmp_path / "to/_videos.parquet").to_pylist()
    assert [(video["frames"], video["lost"], video["shards"]) for video in videos] == [
        (40, 3, 5),
        (6, 0, 6),
        (15, 0, 3),
        (12, 0, 1),
    ]
    assert 0 <= path.stat().st_size - sum(video["bytes"] for video in videos) < 20


def test_the_record_says_from_what_and_label_refuses_the_copy(varied, tmp_path):
    compact(varied, tmp_path / "to")
    job, copy = read_job(str(varied)), read_job(str(tmp_path / "to"))
    assert (copy.fields, copy.fingerprint) == (job.fields, job.fingerprint)
    assert copy.compacted["source"] == str(varied)
    assert (copy.compacted["target_bytes"], copy.compacted["shards"]) == (45_000, 15)
    with pytest.raises(OutputConflict, match="is a compacted copy of"):
        open_job(str(tmp_path / "to"), {"keyframe_interval": 5}, classes=job.classes, model_hash="a" * 64)


def test_success_is_copied(out, tmp_path):
    compact(out, tmp_path / "to")
    assert (tmp_path / "to/_SUCCESS").exists()
    (out / "_SUCCESS").unlink()
    compact(out, tmp_path / "to")
    assert not (tmp_path / "to/_SUCCESS").exists()


def begin_another_video(out) -> None:
    """What a run does that has one more video: it plans, takes `_SUCCESS` away, labels a first shard."""
    (out / "_SUCCESS").unlink()
    shards = [{"first_frame": 3 * i, "num_frames": 3} for i in range(2)]
    write_plan(str(out), "zoo-0123456789ab", {"shards": shards})
    write_video(str(out), "zoo-0123456789ab", drawn(3, 9, (8, 8)), spool=out.parent / "spool")


def test_a_copy_is_not_complete_where_a_run_began_before_the_listing(out, tmp_path, monkeypatch):
    def list_later(*arguments):
        begin_another_video(out)
        return list_shards(*arguments)

    list_shards = compaction.list_shards
    monkeypatch.setattr(compaction, "list_shards", list_later)
    assert not compact(out, tmp_path / "to").complete
    assert not (tmp_path / "to/_SUCCESS").exists()


def test_a_copy_is_not_complete_where_a_planned_shard_is_missing(out, tmp_path):
    write_plan(str(out), "zoo-0123456789ab", {"shards": [{"first_frame": 0, "num_frames": 3}]})
    assert not compact(out, tmp_path / "to").complete
    assert not (tmp_path / "to/_SUCCESS").exists()


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_the_same_command_goes_on_where_it_was_interrupted(varied, tmp_path, monkeypatch, stop_at):
    compact(varied, tmp_path / "whole")
    published = []

    def publish_or_stop(spool, uri, options):
        if len(published) == stop_at:
            raise KeyboardInterrupt
        published.append(uri)
        publish(spool, uri, options)

    publish = compact_file.publish_file
    monkeypatch.setattr(compaction, "NUM_THREADS", 1)
    monkeypatch.setattr(compact_file, "publish_file", publish_or_stop)
    with pytest.raises(KeyboardInterrupt):
        compact(varied, tmp_path / "to", spool_dir=str(tmp_path / "own"))
    assert len(list((tmp_path / "to").rglob("labels/*/*"))) == stop_at
    assert list((tmp_path / "own").iterdir()) == []
    monkeypatch.setattr(compact_file, "publish_file", publish)
    result = compact(varied, tmp_path / "to")
    assert result.written == result.files - stop_at
    assert files_of(tmp_path / "to") == files_of(tmp_path / "whole")  # and nothing depends on time or threads


def test_a_finished_copy_says_so(varied, tmp_path, capsys):
    command = ["compact", str(varied), "--to", str(tmp_path / "to")]
    assert main(command) == 0
    before = files_of(tmp_path / "to")
    capsys.readouterr()
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"source   {varied}: 15 shards, 142.4 kB")
    assert lines[1] == f"output   {tmp_path / 'to'}: 1 file, of which 0 written now"
    assert lines[2] == "state    was compacted already; nothing was to be done"
    assert files_of(tmp_path / "to") == before


def change_target(varied, to):
    return {"target_mb": 1.0}


def add_a_shard(varied, to):
    write_video(str(varied), "d-000000000005", drawn(3, 6, (8, 8)), spool=varied.parent / "spool")
    return {}


def take_another_source(varied, to):
    shutil.copytree(varied, varied.parent / "other")
    return {"out": str(varied.parent / "other")}


@pytest.mark.parametrize("change", [change_target, add_a_shard, take_another_source])
def test_a_copy_of_something_else_is_left_alone(varied, tmp_path, change):
    compact(varied, tmp_path / "to")
    before = files_of(tmp_path / "to")
    options = {"out": varied} | change(varied, tmp_path / "to")
    with pytest.raises(OutputConflict, match=r"Different are (target_bytes|files|source|shards|listing)"):
        compact(options.pop("out"), tmp_path / "to", **options)
    assert files_of(tmp_path / "to") == before


@pytest.mark.parametrize("to", ["varied", "varied/", "varied/labels/x", ".", "to/../varied"])
def test_a_copy_lies_apart_from_its_source(varied, tmp_path, to):
    before = files_of(varied)
    with pytest.raises(ConfigError, match="is or holds the output itself, or lies in it"):
        compact(varied, f"{tmp_path}/{to}")
    assert files_of(varied) == before


def test_a_link_to_the_source_is_the_source(varied, tmp_path):
    (tmp_path / "link").symlink_to(varied)
    with pytest.raises(ConfigError, match="is or holds the output itself"):
        compact(varied, tmp_path / "link")


def test_a_folder_with_anything_else_is_left_alone(varied, tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files that are no compacted output"):
        compact(varied, tmp_path / "to")
    assert files_of(tmp_path / "to") == {"notes.txt": b"mine"}


def test_what_killed_runs_leave_is_no_obstacle_and_removed(varied, tmp_path):
    (tmp_path / "to/_plan").mkdir(parents=True)
    for folder in ("to", "to/_plan"):
        (tmp_path / folder / f".gsvnet-{socket.gethostname()}-999999999-abc.tmp").write_bytes(b"half")
    compact(varied, tmp_path / "to")
    assert list((tmp_path / "to").rglob(".*")) == []


def test_two_runs_may_begin_at_once(varied, tmp_path, monkeypatch):
    def list_later(*arguments):
        monkeypatch.undo()
        compact(varied, tmp_path / "to")
        return list_pages(*arguments)

    list_pages = job.list_pages
    monkeypatch.setattr(job, "list_pages", list_later)
    assert compact(varied, tmp_path / "to").written == 0


def test_the_output_of_a_job_is_left_alone(varied, out):
    before = files_of(out)
    with pytest.raises(OutputConflict, match="is the output of a job"):
        compact(varied, out)
    assert files_of(out) == before


def test_a_copy_is_not_compacted_again(varied, tmp_path):
    compact(varied, tmp_path / "to")
    with pytest.raises(ConfigError, match=f"compact its source {varied}"):
        compact(tmp_path / "to", tmp_path / "again")


def test_an_output_without_labels_is_a_config_error(tmp_path, out):
    shutil.rmtree(out / "labels")
    with pytest.raises(ConfigError, match="no labels to compact"):
        compact(out, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_damaged_shard_is_named_and_the_rest_can_be_done_later(out, tmp_path):
    path = shard_of(out, "night", 2)
    _, stop = column_chunk(path, "mask")
    flip_byte(path, stop - 1)
    with pytest.raises(CorruptLabels, match=r"night-.*000002\.parquet, row group 0.*gsvnet verify"):
        compact(out, tmp_path / "to")
    flip_byte(path, stop - 1)
    compact(out, tmp_path / "to")
    assert verify_output(VerifyConfig(out=str(tmp_path / "to"))).exit_code == 0


def test_a_shard_of_another_place_is_named(out, tmp_path):
    shutil.copy(shard_of(out, "night", 1), shard_of(out, "night", 2))
    with pytest.raises(CorruptLabels, match=r"000002\.parquet holds shard 000001"):
        compact(out, tmp_path / "to")


def test_columns_of_a_later_version_stop_it(out, tmp_path):
    append_column(shard_of(out, "night", 2), pa.field("depth", pa.float32()))
    with pytest.raises(StoreError, match=r"000002\.parquet has columns .* \(depth\): upgrade gsvnet"):
        compact(out, tmp_path / "to")


def test_a_file_that_is_no_shard_is_named(out, tmp_path):
    (out / "labels/x.parquet").write_bytes(b"")
    with pytest.raises(CorruptLabels, match=r"labels/x\.parquet is no label file"):
        compact(out, tmp_path / "to")


def test_a_spool_that_cannot_be_written_is_a_config_error(out, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the spool folder"):
        compact(out, tmp_path / "to", spool_dir=str(tmp_path / "file"))


def test_a_full_spool_disk_is_told_before_anything_is_written(out, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(NoSpace, match="--target-mb"):
        compact(out, tmp_path / "to")
    assert not (tmp_path / "to/labels").exists()


@pytest.mark.parametrize("target_mb", [0, -1, float("nan"), 5000])
def test_a_target_that_no_store_takes_is_a_config_error(target_mb):
    with pytest.raises(ConfigError, match="--target-mb"):
        CompactConfig(out="a", to="b", target_mb=target_mb)


def test_shards_are_packed_in_order_up_to_the_target():
    shards = [StoredLabels(fs=None, path=str(i), name="", num_bytes=size) for i, size in enumerate((4, 4, 4, 20, 1, 9))]
    packs = pack_shards(shards, target_bytes=10)
    assert [[shard.num_bytes for shard in pack] for pack in packs] == [[4, 4], [4], [20], [1, 9]]


# --- verified -------------------------------------------------------------------------------------------------------


def check(out, **options):
    return verify_output(VerifyConfig(out=str(out), **options))


@pytest.fixture
def copy(out, tmp_path) -> Path:
    """Five files, the third with the end of one video and the beginning of the other."""
    compact(out, tmp_path / "to", target_mb=2.5 * shard_of(out, "night", 0).stat().st_size / 1e6)
    return tmp_path / "to"


def test_a_copy_is_sound_and_its_masks_are_sampled_by_shard(copy):
    for quick in (False, True):
        result = check(copy, quick=quick)
        assert (result.exit_code, result.files, result.rows, result.videos) == (0, 5, 120, 2)
        assert result.masks == (0 if quick else 40)


def test_a_deleted_file_of_a_copy_is_missing_and_compacting_again_heals_it(copy, out):
    path = copy / "labels/compacted/000004.parquet"
    whole = path.read_bytes()
    path.unlink()
    (copy / "_manifest.parquet").unlink()
    for quick in (False, True):
        result = check(copy, quick=quick)
        assert (result.exit_code, result.counts) == (1, {"missing": 2})  # the file, and its frames by the plan
        assert "gsvnet compact" in result.findings[0].message
    compact(out, copy, target_mb=read_job(str(copy)).compacted["target_bytes"] / 1e6)
    assert path.read_bytes() == whole
    assert check(copy).exit_code == 0


def test_damage_in_a_copy_is_found(copy):
    path = copy / "labels/compacted/000002.parquet"
    whole = path.read_bytes()
    (copy / "_manifest.parquet").unlink()
    _, stop = column_chunk(path, "mask")
    flip_byte(path, stop - 1)
    assert {(each.kind, each.video, each.frames) for each in check(copy).findings} == {
        ("damaged", "drive-0123456789ab", (48, 60)),
        ("damaged", "night-ba9876543210", (0, 12)),
    }
    path.write_bytes(whole[:-50])
    assert check(copy, quick=True).counts["damaged"] == 1
    path.write_bytes(whole)
    assert check(copy).exit_code == 0


def test_a_file_twice_in_a_copy_is_doubled(copy):
    shutil.copy(copy / "labels/compacted/000000.parquet", copy / "labels/compacted/000009.parquet")
    assert check(copy, quick=True).counts == {"doubled": 2}


def test_a_shard_among_the_files_of_a_copy_is_foreign(copy, out):
    shutil.copy(shard_of(out, "night", 0), copy / "labels/compacted/000001.parquet")
    assert check(copy).findings[0].kind == "foreign"
    shutil.copytree(shard_of(out, "night", 0).parent, copy / "labels/night")
    assert check(copy, quick=True).counts["foreign"] == 6


def test_what_the_source_gave_up_is_given_up_in_the_copy(out, tmp_path):
    path = shard_of(out, "night", 2)
    failure = {"video": path.parent.name, "uri": "x", "error": "DecodeError", "message": "broken", "attempts": 3}
    write_failure(str(out), FailureRecord(shard="000002", **failure))
    path.unlink()
    compact(out, tmp_path / "to")
    result = check(tmp_path / "to")
    assert (result.exit_code, result.findings[0].frames) == (3, (24, 36))


def lose_a_shard(out) -> None:
    shard_of(out, "night", 4).unlink()


def lose_a_video(out) -> None:
    shutil.rmtree(shard_of(out, "night", 0).parent)


def give_up_a_video(out) -> None:
    path = shard_of(out, "night", 4)
    failure = {"video": path.parent.name, "uri": "x", "error": "SourceChanged", "message": "m", "attempts": 1}
    write_failure(str(out), FailureRecord(shard=None, **failure))
    path.unlink()


@pytest.mark.parametrize("lose", [lose_a_shard, lose_a_video, give_up_a_video])
def test_what_the_source_lacks_the_copy_lacks(out, tmp_path, lose):
    lose(out)
    (out / "_SUCCESS").unlink()
    (out / "_manifest.parquet").unlink()
    compact(out, tmp_path / "to")
    source, copy = check(out), check(tmp_path / "to", write=True)
    assert copy.exit_code == source.exit_code != 0
    assert [(each.kind, each.frames) for each in copy.findings] == [
        (each.kind, each.frames) for each in source.findings
    ]
    assert not (tmp_path / "to/_SUCCESS").exists()


def test_plans_are_copied_once(out, tmp_path):
    compact(out, tmp_path / "to")
    plans = files_of(out / "_plan")
    assert files_of(tmp_path / "to/_plan") == plans
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "to/_plan").iterdir()}
    next((tmp_path / "to/_plan").iterdir()).unlink()
    compact(out, tmp_path / "to")
    assert files_of(tmp_path / "to/_plan") == plans
    assert sum(path.stat().st_mtime_ns == time for path, time in before.items()) == 1


def test_an_unreadable_plan_stops_it(out, tmp_path):
    next((out / "_plan").iterdir()).write_bytes(b"{")
    with pytest.raises(CorruptLabels, match=r"_plan/.*\.json is not JSON"):
        compact(out, tmp_path / "to")


def test_write_makes_the_derived_files_of_a_copy_anew(copy):
    before = files_of(copy)
    for name in ("_manifest.parquet", "_videos.parquet"):
        (copy / name).unlink()
    assert check(copy, write=True).written
    assert files_of(copy) == before


@pytest.mark.s3
@pytest.mark.parametrize(
    ("source", "target", "apart"),
    [
        ({"endpoint_url": "http://a:1"}, {"endpoint_url": "http://b:1"}, True),
        ({"endpoint_url": "http://a:1"}, {}, True),
        ({"endpoint_url": "http://a:1"}, {"endpoint_url": "http://a:1/", "key": "other"}, False),
        ({"client_kwargs": {"endpoint_url": "http://a:1"}}, {"endpoint_url": "http://a:1"}, False),
        ({"client_kwargs": {"endpoint_url": "http://a:1"}}, {"client_kwargs": {"endpoint_url": "http://b:1"}}, True),
        ({"endpoint_url": "http://usual:1"}, {}, False),
        ({}, {}, False),
    ],
)
def test_the_same_name_on_another_server_is_another_output(monkeypatch, source, target, apart):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://usual:1")
    config = CompactConfig(out="s3://b/out", to="s3://b/out", storage_options=source, to_options=target)
    with contextlib.nullcontext() if apart else pytest.raises(ConfigError, match="is or holds the output itself"):
        check_apart(config)


@pytest.mark.s3
def test_from_and_to_a_bucket(out, tmp_path, moto_s3):
    to = f"s3://{moto_s3.make_bucket()}/to"
    compact(out, to, to_options=moto_s3.options)
    assert json.loads(json.dumps(read_job(to, moto_s3.options).compacted))["source"] == str(out)
    assert check(to, storage_options=moto_s3.options).exit_code == 0
    source, copy = open_labels(str(out)), open_labels(to, moto_s3.options)
    np.testing.assert_array_equal(copy.labels_at("night", range(60)), source.labels_at("night", range(60)))
    assert compact(out, to, to_options=moto_s3.options).written == 0


@pytest.mark.s3
def test_large_files_are_read_in_parts(out, tmp_path, moto_s3, monkeypatch):
    monkeypatch.setattr("gsvnet.store.scan.BLOCK_BYTES", 5_000)
    monkeypatch.setattr(compact_file, "MAX_ROW_GROUP_ROWS", 10)
    bucket = moto_s3.make_bucket()
    compact(out, f"s3://{bucket}/to", to_options=moto_s3.options, target_mb=100)
    result = check(f"s3://{bucket}/to", storage_options=moto_s3.options)
    assert (result.exit_code, result.rows) == (0, 120)
    compact(out, tmp_path / "to", target_mb=100)
    assert read_manifest(f"s3://{bucket}/to", moto_s3.options) == read_manifest(str(tmp_path / "to"))


def test_the_status_of_a_copy_says_what_it_is(out, tmp_path, capsys):
    to = str(tmp_path / "to")
    compact(out, to)
    assert main(["status", to]) == 0
    printed = capsys.readouterr().out
    assert f"state    complete compacted copy of {out}" in printed
    assert "frames   120 done of 120" in printed


def test_the_status_of_a_copy_names_what_its_source_lacks(out, tmp_path, capsys):
    shard_of(out, "drive", 4).unlink()
    to = str(tmp_path / "to")
    compact(out, to)
    assert main(["status", to]) == 0
    printed = capsys.readouterr().out
    assert f"state    compacted copy of {out}, 1 shard without labels" in printed
    assert "frames   108 done of 120" in printed
