"""`gsvnet verify` tells a sound output from one with any fault, and says what to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gsvnet
from gsvnet.classes import CAMVID
from gsvnet.cli import main
from gsvnet.errors import ConfigError, StoreError
from gsvnet.maintenance.config import VerifyConfig
from gsvnet.maintenance.verification import verify_output
from gsvnet.store.codec import encode_mask
from gsvnet.store.job import FailureRecord, open_job, write_failure, write_plan
from gsvnet.store.manifest import read_manifest
from tests.drawn import Drawn, write_video
from tests.maintenance.conftest import append_column, column_chunk, flip_byte, rewrite, shard_of
from tests.store.older import take_later_columns_away

DAMAGED, MISSING, GIVEN_UP = 1, 1, 3


def check(out, **options):
    return verify_output(VerifyConfig(out=str(out), **options))


def forget_manifest(out: Path) -> None:
    (out / "_manifest.parquet").unlink()


def forget_plans(out: Path) -> None:
    shutil.rmtree(out / "_plan")


def found(result) -> list[tuple]:
    """Kind, file name or video stem, and frames of each finding."""
    return [
        (each.kind, (each.path or each.video or "").rpartition("/")[2].split("-")[0], each.frames)
        for each in result.findings
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_a_sound_output_is_0(out, quick):
    result = check(out, quick=quick)
    assert (result.exit_code, result.findings, result.notes) == (0, (), ())
    assert (result.files, result.rows, result.videos) == (10, 120, 2)
    sizes = sum(path.stat().st_size for path in out.glob("labels/*/*"))
    assert (result.num_bytes_read, result.masks) == (sizes, 0 if quick else 40)


@pytest.mark.parametrize("forget", [(), (forget_manifest,), (forget_plans,), (forget_manifest, forget_plans)])
@pytest.mark.parametrize("quick", [False, True])
def test_a_deleted_file_is_missing_by_the_plan_the_manifest_or_its_neighbours(out, quick, forget):
    for each in forget:
        each(out)
    shard_of(out, "night", 2).unlink()
    result = check(out, quick=quick)
    assert (result.exit_code, found(result)) == (MISSING, [("missing", "night", (24, 36))])
    assert "run the same gsvnet label command" in result.findings[0].message


@pytest.mark.parametrize("forget", [forget_manifest, forget_plans])
def test_a_deleted_last_file_is_missing_by_the_plan_or_the_manifest(out, forget):
    forget(out)
    shard_of(out, "night", 4).unlink()
    assert found(check(out)) == [("missing", "night", (48, 60))]


def test_the_remedy_makes_a_damaged_output_whole_again(label_config, tmp_path):
    out = tmp_path / "out"
    assert gsvnet.label(label_config()).exit_code == 0
    assert check(out).exit_code == 0
    damaged, deleted = sorted(out.glob("labels/*/*.parquet"))[1:3]
    flip_byte(damaged, 1000)
    deleted.unlink()
    assert check(out).counts == {"damaged": 1, "missing": 1}
    damaged.unlink()
    assert gsvnet.label(label_config()).exit_code == 0
    assert check(out).exit_code == 0


def test_a_whole_deleted_video_is_missing(out):
    shutil.rmtree(shard_of(out, "night", 0).parent)
    assert found(check(out)) == [("missing", "night", (0, 60))]
    forget_plans(out)
    assert found(check(out)) == [("missing", "night", (0, 60))]


def test_missing_frames_with_a_record_are_3(out):
    path = shard_of(out, "night", 1)
    failure = {"video": path.parent.name, "uri": "x", "error": "DecodeError", "message": "broken", "attempts": 3}
    write_failure(str(out), FailureRecord(shard="000001", **failure))
    assert check(out).exit_code == 0  # void: the labels are there
    path.unlink()
    result = check(out)
    assert (result.exit_code, found(result)) == (GIVEN_UP, [("failed", "night", (12, 24))])
    assert "DecodeError: broken" in result.findings[0].message
    assert "--retry-failed" in result.findings[0].message
    shard_of(out, "night", 2).unlink()
    assert check(out).exit_code == MISSING


def test_a_video_that_could_not_be_planned_is_3(out):
    write_failure(
        str(out), FailureRecord(video="gone-0123456789ab", uri="x", shard=None, error="E", message="m", attempts=1)
    )
    result = check(out)
    assert (result.exit_code, found(result)) == (GIVEN_UP, [("failed", "gone", None)])


@pytest.mark.parametrize("planned", [False, True])
def test_a_video_given_up_after_some_shards_is_3(out, planned):
    path = shard_of(out, "night", 4)
    write_failure(
        str(out),
        FailureRecord(video=path.parent.name, uri="x", shard=None, error="SourceChanged", message="m", attempts=1),
    )
    assert check(out).exit_code == 0  # void: all that was planned is there
    if not planned:
        forget_manifest(out)
        forget_plans(out)
        write_plan(
            str(out), "drive-0123456789ab", {"shards": [{"first_frame": 12 * i, "num_frames": 12} for i in range(5)]}
        )
    path.unlink()
    result = check(out)
    assert (result.exit_code, found(result)) == (GIVEN_UP, [("failed", "night", (48, 60) if planned else None)])
    assert ("no labels of shard 000004" if planned else "no labels after shard 000003") in result.findings[0].message


def test_an_output_without_labels_and_plans_is_not_complete(tmp_path, capsys):
    out = str(tmp_path / "out")
    open_job(out, {"keyframe_interval": 5}, classes=CAMVID, model_hash="a" * 64)
    assert main(["verify", out]) == 1
    assert "state    no labels and no plans" in capsys.readouterr().out.splitlines()
    assert not check(out, write=True).is_complete
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_without_plans_nobody_can_tell_that_all_is_there(out, capsys):
    forget_plans(out)
    forget_manifest(out)
    shard_of(out, "night", 4).unlink()
    (out / "_SUCCESS").unlink()
    result = check(out, write=True)
    assert (result.exit_code, result.is_complete, result.findings, result.unplanned) == (1, False, (), 2)
    assert "without a plan, judged by footers: drive-0123456789ab, night-ba9876543210" in result.notes[0]
    assert not (out / "_SUCCESS").exists()
    assert main(["verify", str(out)]) == 1
    assert "2 videos without a plan, so more may be missing" in capsys.readouterr().out


def test_success_stays_where_plans_are_gone_and_nothing_contradicts(out):
    forget_plans(out)
    assert check(out, write=True).exit_code == 1
    assert (out / "_SUCCESS").exists()
    shard_of(out, "night", 2).unlink()
    check(out, write=True)
    assert not (out / "_SUCCESS").exists()


@pytest.mark.parametrize("nullable", [True, False])
def test_a_later_version_may_add_columns_that_may_be_null(out, nullable):
    forget_manifest(out)
    append_column(shard_of(out, "night", 2), pa.field("depth", pa.float32(), nullable=nullable))
    for quick in (False, True):
        assert check(out, quick=quick).exit_code == (0 if nullable else DAMAGED)


def test_another_order_of_columns_is_foreign(out):
    forget_manifest(out)
    path = shard_of(out, "night", 2)
    append_column(path, pa.field("depth", pa.float32()))
    table, metadata = pq.read_table(path, partitioning=None), pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, table.select(["depth", *table.column_names[:-1]]).schema, store_schema=False) as writer:
        writer.write_table(table.select(["depth", *table.column_names[:-1]]))
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})
    assert "has other columns" in check(out).findings[0].message


def write_larger(out: Path, *, seconds_later: float) -> None:
    """Give a shard other labels of more bytes; its time is that of the manifest and some seconds."""
    path = shard_of(out, "night", 2)
    rng = np.random.default_rng(5)
    frames = [Drawn(labels=rng.integers(0, 11, (72, 96)).astype(np.uint8), time_s=i / 10) for i in range(24, 36)]
    path.unlink()
    write_video(str(out), path.parent.name, frames, spool=out.parent / "s", first_frame=24, first_shard=2)
    written = (out / "_manifest.parquet").stat().st_mtime + seconds_later
    os.utime(path, (written, written))


def test_a_sound_file_that_is_newer_than_the_manifest_was_written_anew(out):
    write_larger(out, seconds_later=1)
    result = check(out)
    assert (result.exit_code, result.notes) == (
        0,
        ("1 label files were written after the manifest; --write makes it anew",),
    )
    assert check(out, write=True).written
    assert check(out).notes == ()


@pytest.mark.parametrize(("quick", "seconds_later"), [(True, 1), (False, -1)])
def test_another_size_without_such_evidence_is_damaged_with_both_remedies(out, quick, seconds_later):
    write_larger(out, seconds_later=seconds_later)
    result = check(out, quick=quick)
    assert found(result) == [("damaged", "000002.parquet", None)]
    assert "if it was written anew, delete _manifest.parquet" in result.findings[0].message


def test_a_newer_file_with_a_flipped_byte_that_only_the_hash_knows_is_damaged(out):
    path = shard_of(out, "night", 2)
    flip_byte(path, path.read_bytes().rindex(b"parquet-cpp"))  # the writer's name
    later = (out / "_manifest.parquet").stat().st_mtime + 1
    os.utime(path, (later, later))
    result = check(out)
    assert found(result) == [("damaged", "000002.parquet", None)]
    assert "if it was written anew, delete _manifest.parquet" in result.findings[0].message


def test_a_truncated_file_is_damaged(out):
    path = shard_of(out, "night", 2)
    path.write_bytes(path.read_bytes()[:-100])
    for quick in (False, True):
        assert found(check(out, quick=quick)) == [("damaged", "000002.parquet", None)]


@pytest.mark.parametrize("column", ["mask", "pts", "pixels.car", "confidence", "video"])
def test_a_flipped_byte_in_a_page_is_damaged_also_without_a_manifest(out, column):
    forget_manifest(out)
    path = shard_of(out, "night", 2)
    _, stop = column_chunk(path, column)
    flip_byte(path, stop - 1)  # of the last page; the headers of pages are under no checksum
    result = check(out)
    assert result.exit_code == DAMAGED
    assert ("damaged", "000002.parquet", (24, 36)) in found(result)
    assert (
        "delete it and run the same gsvnet label command, which labels that shard again" in result.findings[0].message
    )


def test_a_flipped_byte_anywhere_is_damaged_by_the_manifest(out):
    path = shard_of(out, "night", 2)
    size = path.stat().st_size
    whole = path.read_bytes()
    for at in np.linspace(0, size - 1, 40).astype(int):
        flip_byte(path, at)
        result = check(out)
        assert result.exit_code == DAMAGED, at
        assert {each.path for each in result.findings} == {f"labels/{path.parent.name}/000002.parquet"}
        path.write_bytes(whole)


@pytest.mark.parametrize("key", [b"gsvnet.video", b"gsvnet.classes", b"gsvnet.model_hash", b"PAR1"])
def test_a_flipped_byte_in_the_footer_that_matters_is_found_without_a_manifest(out, key):
    forget_manifest(out)
    path = shard_of(out, "night", 2)
    flip_byte(path, path.read_bytes().rindex(key))
    for quick in (False, True):
        result = check(out, quick=quick)
        assert result.exit_code == DAMAGED
        assert found(result)[0][1] == "000002.parquet"


def repeat_first_row(rows: pa.Table) -> pa.Table:
    return pa.concat_tables([rows.slice(0, 1), rows.slice(0, 1), rows.slice(2)])


def test_a_doubled_row_is_found(out):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 2), repeat_first_row)
    assert ("doubled", "000002.parquet", (25, 36)) in found(check(out))


def test_more_rows_than_the_footer_says_are_damaged(out):
    rewrite(shard_of(out, "night", 2), lambda rows: pa.concat_tables([rows, rows]))
    for quick in (False, True):
        assert check(out, quick=quick).findings[0].message.startswith("has 24 rows, its footer says 12")


def test_a_copied_file_under_another_shards_name_is_foreign(out):
    forget_manifest(out)
    shutil.copy(shard_of(out, "night", 1), shard_of(out, "night", 2))
    for quick in (False, True):
        result = check(out, quick=quick)
        assert found(result) == [("foreign", "000002.parquet", None)]
        assert "holds shard 000001" in result.findings[0].message


def test_a_copied_file_under_another_videos_name_is_foreign(out):
    forget_manifest(out)
    shutil.copy(shard_of(out, "night", 2), shard_of(out, "drive", 2))
    assert found(check(out)) == [("foreign", "000002.parquet", None)]


def test_one_shard_more_than_planned_is_foreign(out):
    path = shard_of(out, "night", 4)
    rewrite(shutil.copy(path, path.with_name("000005.parquet")), lambda rows: rows, shard="5")
    assert ("foreign", "000005.parquet", (48, 60)) in found(check(out))


def test_shards_that_overlap_are_doubled_without_a_plan(out):
    forget_plans(out)
    forget_manifest(out)
    path = shard_of(out, "night", 2)

    def begin_earlier(rows: pa.Table) -> pa.Table:
        frames = pa.array(np.arange(20, 32))
        return rows.set_column(2, rows.schema.field("frame_index"), frames)

    rewrite(path, begin_earlier, first_frame="20")
    assert ("doubled", "000002.parquet", (20, 24)) in found(check(out))


def test_a_gap_between_rows_is_damaged(out):
    forget_manifest(out)
    path = shard_of(out, "night", 2)
    rewrite(path, lambda rows: pa.concat_tables([rows.slice(0, 3), rows.slice(4)]), num_rows="11")
    result = check(out)
    assert sorted(found(result)) == [("damaged", "000002.parquet", (24, 36)), ("damaged", "000002.parquet", (27, 35))]


def test_a_shortened_file_is_found_by_the_plan_or_by_the_next_shard(out):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 2), lambda rows: rows.slice(0, 8), num_rows="8")
    assert found(check(out)) == [("damaged", "000002.parquet", (24, 36))]
    forget_plans(out)
    assert found(check(out, quick=True)) == [("missing", "night", (32, 36))]


def test_the_last_shard_ends_where_its_file_says(out):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 4), lambda rows: rows.slice(0, 8), num_rows="8")
    result = check(out)
    assert result.exit_code == 0
    assert "56 frames, 60 were planned" in result.notes[0]


@pytest.mark.parametrize("keys", [{"job": "b" * 64}, {"model_hash": "b" * 64}])
def test_a_file_of_another_job_is_foreign(out, keys):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 2), lambda rows: rows, **keys)
    for quick in (False, True):
        assert found(check(out, quick=quick)) == [("foreign", "000002.parquet", None)]


def test_a_newer_schema_version_asks_for_an_upgrade(out):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 2), lambda rows: rows, schema_version="2")
    result = check(out)
    assert found(result) == [("newer", "000002.parquet", None)]
    assert "upgrade" in result.findings[0].message
    assert "delete" not in result.findings[0].message


def change_masks(rows: pa.Table, change) -> pa.Table:
    masks = pa.array([change(mask) for mask in rows["mask"].to_pylist()], pa.binary())
    return rows.set_column(rows.column_names.index("mask"), rows.schema.field("mask"), masks)


def test_masks_that_fail_their_check_are_damaged_though_all_pages_are_sound(out):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 2), lambda rows: change_masks(rows, lambda mask: mask[:-1] + b"!"))
    result = check(out)
    assert [each[:2] for each in found(result)] == [("damaged", "000002.parquet")]
    assert "checksum of a mask" in result.findings[0].message
    assert check(out, sample=0).exit_code == 0  # nothing else was wrong


def put_uncertain(rows: pa.Table, mask: bytes) -> pa.Table:
    masks = pa.array([mask] * len(rows), pa.binary())
    return rows.set_column(rows.column_names.index("mask_uncertain"), rows.schema.field("mask_uncertain"), masks)


CHECKED = np.eye(72, 96, dtype=np.uint8)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (encode_mask(CHECKED), None),
        (encode_mask(2 * CHECKED), "mask_uncertain holds 2; it must be 0 or 1"),
        (encode_mask(CHECKED[1:]), "checksum of a mask does not fit"),
        (encode_mask(CHECKED)[:-1] + b"!", "checksum of a mask does not fit"),
        (b"", "mask of 0 bytes is too short"),
    ],
)
def test_uncertain_maps_are_decoded_as_masks_are(out, mask, message):
    forget_manifest(out)
    rewrite(shard_of(out, "night", 2), lambda rows: put_uncertain(rows, mask))
    result = check(out)
    assert (result.exit_code, result.masks) == (DAMAGED if message else 0, 40)
    if message:
        assert message in result.findings[0].message
        assert check(out, sample=0).exit_code == 0


def test_wrong_pixel_counts_are_damaged(out):
    forget_manifest(out)
    sky = encode_mask(np.zeros((72, 96), np.uint8))
    rewrite(shard_of(out, "night", 2), lambda rows: change_masks(rows, lambda _: sky))
    assert "pixels per class" in check(out).findings[0].message


def test_all_frames_can_be_decoded(out):
    assert check(out, sample=1000).masks == 120


@pytest.mark.parametrize("name", ["notes.txt", "000001.parquet", "night/000001.parquet.bak", "a/b/c/000000.parquet"])
def test_a_file_that_does_not_belong_below_labels_is_foreign(out, name):
    path = out / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    result = check(out)
    assert [(each.kind, each.path) for each in result.findings] == [("foreign", f"labels/{name}")]


def test_a_parquet_file_of_another_program_is_foreign(out):
    forget_manifest(out)
    pq.write_table(pa.table({"a": [1]}), shard_of(out, "night", 2))
    assert found(check(out)) == [("foreign", "000002.parquet", None)]


def test_leftovers_of_writers_and_an_old_manifest_are_notes(out):
    manifest = read_manifest(str(out))
    pq.write_table(manifest.slice(0, 7), out / "_manifest.parquet")
    (out / "labels" / ".gsvnet-host-1-2.tmp").write_bytes(b"half")
    result = check(out)
    assert result.exit_code == 0
    assert sorted(note.split()[0] for note in result.notes) == ["1", "3"]


@pytest.mark.parametrize("data", [None, b"", b"PAR1"])
def test_nothing_to_compare_hashes_with_is_a_note(out, data):
    forget_manifest(out)
    if data is not None:
        (out / "_manifest.parquet").write_bytes(data)
    result = check(out)
    assert (result.exit_code, [note[:11] for note in result.notes]) == (0, ["no manifest"])


def test_an_unreadable_plan_is_damaged_and_the_labels_are_judged_without_it(out):
    next(out.glob("_plan/night-*")).write_bytes(b"{")
    shard_of(out, "night", 2).unlink()
    assert found(check(out)) == [("damaged", "night", None), ("missing", "night", (24, 36))]


def test_an_unreadable_failure_is_damaged(out):
    folder = out / "_failed" / "x"
    folder.mkdir(parents=True)
    (folder / "video.json").write_bytes(b"{}")
    assert found(check(out)) == [("damaged", "_failed", None)]


def test_every_fault_is_counted_and_the_first_of_them_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("gsvnet.maintenance.findings.MAX_KEPT", 10)
    out = str(tmp_path / "out")
    write_video(out, "a-0", [Drawn(labels=None, time_s=0.0)], spool=tmp_path)
    for number in range(13):
        write_plan(out, f"v-{number}", {"shards": [{"first_frame": 0, "num_frames": 5}]})
    result = check(out)
    assert (len(result.findings), result.counts) == (10, {"missing": 13})


def test_what_is_wrong_with_rows_is_named(tmp_path):
    """Lost frames are sound; null masks of others are not, nor times that go back, nor too many pixels."""
    out = tmp_path / "out"
    frames = [Drawn(labels=None if i == 3 else np.full((4, 6), i % 3, np.uint8), time_s=i / 10) for i in range(8)]
    write_video(str(out), "a-0", frames, spool=tmp_path / "spool")
    write_plan(str(out), "a-0", {"shards": [{"first_frame": 0, "num_frames": 8}]})
    path = shard_of(out, "a", 0)
    assert check(out).exit_code == 0

    def spoil(rows: pa.Table) -> pa.Table:
        records = rows.to_pylist()
        records[1]["mask"] = None
        records[4]["pts"] = records[2]["pts"]
        records[5]["pixels"]["car"] = 25
        records[6]["height"] = 0
        return pa.Table.from_pylist(records, schema=rows.schema)

    rewrite(path, spoil)
    assert {each.frames: each.message.partition(";")[0] for each in check(out, sample=0).findings} == {
        (1, 2): "row 1: status, mask and pixels contradict each other",
        (4, 5): "pts do not ascend at row 4",
        (5, 6): "row 5: pixel counts that no mask of this size can have",
        (6, 7): "row 6: height or width below 1",
    }


def test_what_is_wrong_with_later_columns_is_named(tmp_path):
    out = tmp_path / "out"
    half = [0.5] * 11
    frames = [
        Drawn(labels=None if i == 7 else np.full((4, 6), i % 3, np.uint8), time_s=i / 10, by_class=half,
              drift=(0.5, half) if i % 5 == 0 else None)
        for i in range(10)
    ]  # fmt: skip
    write_video(str(out), "a-0", frames, spool=tmp_path / "spool")
    write_plan(str(out), "a-0", {"shards": [{"first_frame": 0, "num_frames": 10}]})
    assert check(out).exit_code == 0

    def spoil(rows: pa.Table) -> pa.Table:
        records = rows.to_pylist()
        records[1]["drift_agreement"], records[1]["drift_iou"] = 0.5, records[0]["drift_iou"]
        records[2]["class_confidence"]["car"] = 1.5
        records[3]["keyframe_interval"] = 0
        records[7]["class_confidence"] = records[2]["class_confidence"]
        return pa.Table.from_pylist(records, schema=rows.schema)

    rewrite(shard_of(out, "a", 0), spoil)
    assert {each.frames: each.message.partition("; delete")[0] for each in check(out).findings} == {
        (1, 2): "row 1: drift of a frame that is no keyframe, or half of it",
        (2, 3): "row 2: drift or class_confidence outside 0..1",
        (3, 4): "row 3: keyframe_interval below 1",
        (7, 8): "row 7: status, mask and pixels contradict each other",
    }


@pytest.mark.parametrize(("name", "kind"), [("drift_agreement", pa.float64()), ("keyframe_interval", pa.int64())])
def test_a_known_column_of_another_type_is_foreign(out, name, kind):
    forget_manifest(out)
    path = shard_of(out, "night", 2)
    take_later_columns_away(path)
    assert check(out).exit_code == 0
    append_column(path, pa.field(name, kind))
    assert "has other columns" in check(out).findings[0].message


def test_write_makes_the_derived_files_anew(out):
    derived = ("_manifest.parquet", "_videos.parquet", "_SUCCESS")
    before = {name: (out / name).read_bytes() for name in derived}
    for name in derived:
        (out / name).unlink()
    assert check(out, write=True).written
    assert {name: (out / name).read_bytes() for name in derived} == before


def test_write_takes_success_away_where_frames_are_missing(out):
    shard_of(out, "night", 2).unlink()
    assert any("_SUCCESS" in note for note in check(out).notes)
    result = check(out, write=True)
    assert (result.written, result.exit_code) == (True, MISSING)
    assert not (out / "_SUCCESS").exists()
    assert len(read_manifest(str(out))) == 9


def test_write_changes_nothing_where_anything_is_damaged(out):
    before = (out / "_manifest.parquet").read_bytes()
    flip_byte(shard_of(out, "night", 2), 1000)
    assert not check(out, write=True).written
    assert (out / "_manifest.parquet").read_bytes() == before


def test_hashes_are_not_written_for_bytes_that_were_not_read():
    with pytest.raises(ConfigError, match="leave out --quick"):
        VerifyConfig(out="x", quick=True, write=True)


def test_what_is_no_output_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="no output"):
        check(tmp_path)


def test_lines_for_people(out, capsys):
    shard_of(out, "night", 1).unlink()
    assert main(["verify", str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"output   {out}"
    assert lines[1] == "labels   9 files, 108 rows of 2 videos"
    assert lines[3] == "state    what is there is sound, frames are missing"
    assert lines[4] == "found    1 missing:"
    assert lines[5].startswith("         missing: night-")
    assert "frames 12 to 23: no labels of shard 000001, which the manifest lists; run the same" in lines[5]


def test_json_for_programs(out, capsys):
    shard_of(out, "night", 1).unlink()
    assert main(["verify", str(out), "--json", "--quick"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["exit_code"], data["counts"], data["findings"][0]["frames"]) == (1, {"missing": 1}, [12, 24])


@pytest.mark.s3
def test_a_bucket_tells_the_same(moto_s3, tmp_path):
    out = f"s3://{moto_s3.make_bucket()}/out"
    frames = [Drawn(labels=np.full((4, 6), i % 3, np.uint8), time_s=i / 10) for i in range(20)]
    write_video(out, "a-0", frames, spool=tmp_path, shard_frames=5, storage_options=moto_s3.options)
    shards = [{"first_frame": 5 * i, "num_frames": 5} for i in range(4)]
    write_plan(out, "a-0", {"shards": shards}, moto_s3.options)
    for quick in (False, True):
        result = check(out, storage_options=moto_s3.options, quick=quick)
        assert (result.exit_code, result.files, result.rows) == (0, 4, 20)
    assert check(out, storage_options=moto_s3.options, write=True).written
    bucket = out.removeprefix("s3://").partition("/")[0]
    key = "out/labels/a-0/000002.parquet"
    body = moto_s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    moto_s3.client().put_object(Bucket=bucket, Key=key, Body=body[:100] + b"!" + body[101:])
    assert check(out, storage_options=moto_s3.options).exit_code == DAMAGED
    moto_s3.client().delete_object(Bucket=bucket, Key=key)
    assert found(check(out, storage_options=moto_s3.options, quick=True)) == [("missing", "a", (10, 15))]
