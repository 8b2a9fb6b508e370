"""The shard writer: whole or not at all, equal rows make equal bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import gsvnet.store.schema as schema
from gsvnet.errors import AlreadyPublished, ConfigError, CorruptLabels, NoSpace, StoreError
from gsvnet.store.schema import FrameRow, ShardFooter, label_schema, parse_footer, table_to_rows
from gsvnet.store.write import ShardWriter, check_space, estimate_spool_bytes, sweep_spools

ROOT = Path(__file__).parents[2]  # from where a child finds tests/

COLUMNS = [
    "video",
    "uri",
    "frame_index",
    "pts",
    "time_s",
    "is_keyframe",
    "keyframe_distance",
    "status",
    "height",
    "width",
    "pixels",
    "confidence",
    "confidence_p05",
    "codec",
    "mask",
    "keyframe_interval",
    "drift_agreement",
    "drift_iou",
    "class_confidence",
    "mask_uncertain",
]


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "labels" / "v" / "000000.parquet"


def write(target: Path, footer: ShardFooter, rows: list[FrameRow], **options) -> ShardWriter:
    with ShardWriter(str(target), footer=footer, spool_dir=target.parents[2] / "spool", **options) as writer:
        for row in rows:
            writer.append(row)
    return writer


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_columns_are_as_documented(target, footer, row_of):
    write(target, footer, [row_of(0)])
    assert pq.read_schema(target).names == COLUMNS
    assert pq.read_table(target).schema.equals(label_schema(footer.classes))
    text = (Path(schema.__file__).parent / "FORMAT.md").read_text()
    assert all(f"`{name}`" in text for name in COLUMNS)
    assert all(f"`{name}`" in text for name in footer.to_metadata(1))


def test_rows_read_back_as_they_were_written(target, footer, row_of):
    rows = [row_of(0), row_of(1, lost=True), replace(row_of(2), keyframe_distance=None, confidence=None)]
    write(target, footer, rows)
    table = pq.read_table(target)
    assert table["video"].to_pylist() == [footer.video] * 3
    for ours, theirs in zip(rows, table_to_rows(table)):
        assert theirs.pixels == (None if ours.pixels is None else tuple(ours.pixels))
        assert theirs.confidence == pytest.approx(ours.confidence)  # float32
        assert replace(theirs, pixels=ours.pixels, confidence=ours.confidence) == ours


def test_all_columns_read_back_as_they_were_written(target, footer, full_row_of):
    rows = [full_row_of(i) for i in range(7)]
    write(target, footer, rows)
    for ours, theirs in zip(rows, table_to_rows(pq.read_table(target)), strict=True):
        for name in ("keyframe_interval", "drift_agreement", "mask_uncertain"):
            assert getattr(theirs, name) == getattr(ours, name), name
        for name in ("drift_iou", "class_confidence"):
            if (values := getattr(ours, name)) is None:
                assert getattr(theirs, name) is None
            else:
                np.testing.assert_array_equal(getattr(theirs, name), values)


def test_values_per_class_are_structs_in_which_nan_is_null(target, footer, full_row_of):
    write(target, footer, [full_row_of(i) for i in range(2)])
    table = pq.read_table(target)
    keyframe, other = table["drift_iou"].to_pylist()
    assert list(keyframe) == list(footer.classes.identifiers)
    assert (keyframe["sky"], keyframe[footer.classes.identifiers[2]]) == (0.0, None)
    assert other is None
    assert table["class_confidence"].to_pylist()[1]["car"] == 1 / 8
    for struct in (table["drift_iou"], table["class_confidence"]):
        assert not any(np.isnan(pc.fill_null(leaf, 0).to_numpy()).any() for leaf in struct.combine_chunks().flatten())


def test_pixels_are_a_struct_by_class_name(target, footer, row_of):
    write(target, replace(footer, first_frame=4), [row_of(4), row_of(5, lost=True)])
    first, lost = pq.read_table(target)["pixels"].to_pylist()
    assert list(first) == list(footer.classes.identifiers)
    assert (first["car"], first["sky"], first["sign_symbol"]) == (12, 7 * 20 - 1 - 4, 0)
    assert lost is None


def test_footer_reads_back(target, footer, row_of):
    write(target, footer, [row_of(i) for i in range(3)])
    assert parse_footer(pq.read_metadata(target).metadata, "x") == (footer, 3)


@pytest.mark.parametrize("optional", [{"motion": "codec"}, {"backed_off_to": 2}], ids=str)
def test_what_a_footer_has_only_where_there_is_something_to_say_reads_back(target, footer, row_of, optional):
    (name,) = optional
    assert f"gsvnet.{name}" not in footer.to_metadata(1)
    write(target, replace(footer, **optional), [row_of(0)])
    assert parse_footer(pq.read_metadata(target).metadata, "x")[0] == replace(footer, **optional)
    assert f"`gsvnet.{name}`" in (Path(schema.__file__).parent / "FORMAT.md").read_text()


def test_published_says_what_became_visible(target, footer, row_of):
    rows = [row_of(0), row_of(1, lost=True)]
    published = write(target, footer, rows).published
    assert (published.num_rows, published.num_lost) == (2, 1)
    assert published.num_bytes == target.stat().st_size
    assert published.mask_bytes == len(rows[0].mask)


def test_two_processes_write_the_same_bytes(tmp_path, footer, row_of):
    code = """
        import pickle, sys
        from gsvnet.store.write import ShardWriter
        footer, rows, target, spool = pickle.load(sys.stdin.buffer)
        with ShardWriter(target, footer=footer, spool_dir=spool) as writer:
            for row in rows: writer.append(row)
    """
    import pickle

    digests = set()
    for seed in ("1", "2"):
        target = tmp_path / seed / "000000.parquet"
        stdin = pickle.dumps((footer, [row_of(i, lost=i == 700) for i in range(1200)], str(target), str(tmp_path)))
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], input=stdin, env=environment, check=True)
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_row_groups_are_bounded_by_rows_and_by_mask_bytes(target, footer, row_of, monkeypatch):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 8)
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_BYTES", 10_000)
    rows = [replace(row_of(i), mask=bytes(6_000)) if 10 <= i < 14 else row_of(i) for i in range(20)]
    write(target, footer, rows)
    metadata = pq.read_metadata(target)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [8, 4, 2, 6]


def test_row_groups_are_bounded_by_both_sorts_of_masks_together(target, footer, row_of, monkeypatch):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_BYTES", 10_000)
    rows = [replace(row_of(i), mask=bytes(2_000), mask_uncertain=bytes(3_000)) for i in range(3)]
    published = write(target, footer, rows).published
    metadata = pq.read_metadata(target)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 1]
    assert published.mask_bytes == 15_000


def test_masks_have_no_statistics_and_no_second_compression(target, footer, full_row_of):
    write(target, footer, [full_row_of(i) for i in range(2)])
    group = pq.read_metadata(target).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    masks = [columns.pop(name) for name in ("mask", "mask_uncertain")]
    assert [(column.statistics, column.compression) for column in masks] == [(None, "UNCOMPRESSED")] * 2
    nowhere = {name for name in columns if name.endswith(f".{footer.classes.identifiers[2]}")}
    nowhere.discard(f"pixels.{footer.classes.identifiers[2]}")
    assert all(column.compression == "ZSTD" for column in columns.values())
    assert {name for name, column in columns.items() if not column.statistics.has_min_max} == nowhere
    assert all(columns[name].statistics.null_count == 2 for name in nowhere)


def write_then_raise(target: Path, footer: ShardFooter, rows: list[FrameRow], error: BaseException) -> None:
    with ShardWriter(str(target), footer=footer, spool_dir=target.parents[2] / "spool") as writer:
        for row in rows:
            writer.append(row)
        raise error


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(1), KeyboardInterrupt()])
@pytest.mark.parametrize("num_rows", [0, 1, 600])
def test_an_exception_publishes_nothing(target, footer, row_of, error, num_rows):
    with pytest.raises(type(error)):
        write_then_raise(target, footer, [row_of(i) for i in range(num_rows)], error)
    assert files_below(target.parents[2]) == []


@pytest.mark.parametrize("indices", [[0, 2], [1], [0, 0], [0, 1, 0]])
def test_rows_out_of_order_are_refused_and_publish_nothing(target, footer, row_of, indices):
    with pytest.raises(StoreError, match="where frame"):
        write(target, footer, [row_of(i) for i in indices])
    assert files_below(target.parents[2]) == []


@pytest.mark.parametrize(("num_rows", "expected"), [(0, None), (2, 3), (4, 3)])
def test_a_wrong_number_of_rows_publishes_nothing(target, footer, row_of, num_rows, expected):
    with pytest.raises(StoreError, match="expected"):
        write(target, footer, [row_of(i) for i in range(num_rows)], expected_rows=expected)
    assert files_below(target.parents[2]) == []


def test_the_loser_of_a_race_leaves_the_winner_and_no_spool(target, footer, row_of):
    write(target, footer, [row_of(0)])
    with pytest.raises(AlreadyPublished):
        write(target, footer, [row_of(0), row_of(1)])
    assert files_below(target.parents[2]) == [target]
    assert pq.read_metadata(target).num_rows == 1


def test_pixels_of_other_classes_are_refused(target, footer, row_of):
    with pytest.raises(StoreError, match="3 pixel counts for 11 classes"):
        write(target, footer, [replace(row_of(0), pixels=(1, 2, 3))])


@pytest.mark.parametrize("change", [{"mask": None}, {"pixels": None}, {"status": "decode_error"}, {"status": "fine"}])
def test_a_row_has_a_mask_exactly_if_it_is_ok(row_of, change):
    with pytest.raises(StoreError, match="status"):
        replace(row_of(0), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keyframe_interval": 0}, "keyframe_interval 0; it must be at least 1"),
        ({"drift_agreement": 1.01}, r"drift_agreement 1\.01; it must be 0\.\.1"),
        ({"drift_agreement": float("nan")}, "drift_agreement nan"),
        ({"drift_agreement": None}, "drift_agreement and drift_iou together or neither"),
        ({"drift_iou": None}, "drift_agreement and drift_iou together or neither"),
        ({"drift_iou": [0.5, -0.1]}, r"drift_iou -0\.1; it must be 0\.\.1, or NaN"),
        ({"class_confidence": [0.5, 1.1]}, r"class_confidence 1\.1; it must be 0\.\.1, or NaN"),
        ({"is_keyframe": False}, "this frame is none"),
    ],
)
def test_values_that_no_frame_can_have_are_refused(full_row_of, change, message):
    with pytest.raises(StoreError, match=f"frame 10: .*{message}"):
        replace(full_row_of(10), **change)


@pytest.mark.parametrize(
    "given", [{"keyframe_interval": 5}, {"class_confidence": [1.0]}, {"mask_uncertain": b"1"}, {"confidence_p05": 0.5}]
)
def test_a_lost_frame_has_no_quality(row_of, given):
    with pytest.raises(StoreError, match=f"frame 1: {next(iter(given))} of a frame whose status is 'decode_error'"):
        replace(row_of(1, lost=True), **given)


def test_a_mean_that_rounding_takes_above_1_is_kept(row_of):
    assert replace(row_of(0), class_confidence=[1 + 1e-6]).class_confidence == [1 + 1e-6]


@pytest.mark.parametrize("name", ["drift_iou", "class_confidence"])
def test_values_of_other_classes_are_refused(target, footer, full_row_of, name):
    with pytest.raises(StoreError, match=f"frame 0: 2 values of {name} for 11 classes"):
        write(target, footer, [replace(full_row_of(0), **{name: [0.5, 0.5]})])


def test_too_little_space_is_said_before_a_shard_starts(tmp_path, footer, row_of):
    with pytest.raises(NoSpace, match="--spool-dir"):
        check_space(tmp_path, 2**62)
    with pytest.raises(NoSpace), ShardWriter(
        str(tmp_path / "x.parquet"), footer=footer, spool_dir=tmp_path, needed_bytes=2**62
    ):  # fmt: skip
        pass
    check_space(tmp_path, 1)
    assert files_below(tmp_path) == []


def test_a_missing_spool_folder_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="--spool-dir"):
        check_space(tmp_path / "absent", 1)


def test_the_space_estimate_covers_a_minute_of_real_scenes():
    assert estimate_spool_bytes(1800, 1024, 2048) > 5 * 1800 * 3_500  # bytes per mask: FORMAT.md


def test_a_disk_that_fills_up_is_no_space_and_leaves_nothing(tmp_path):
    result = run_writer(tmp_path, rows=2000, before="resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))")
    assert "NoSpace" in result.stderr.splitlines()[-1], result.stderr
    assert files_below(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk_that_fills_up_is_no_space_and_leaves_nothing(tmp_path):
    (tmp_path / "spool").mkdir()
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}/spool 2>/dev/null || exit 77; "
    after = f"; echo LEFT $(ls -A {tmp_path}/spool)"
    result = run_writer(tmp_path, rows=2000, shell=("unshare", "-m", "sh", "-c", mount + '"$@"' + after, "sh"))
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("no mount namespace here")
    assert "NoSpace" in result.stderr.splitlines()[-1], result.stderr
    assert result.stdout == "LEFT\n"
    assert files_below(tmp_path) == []


WRITER = """
    import os, resource, signal, sys
    from gsvnet.classes import CAMVID
    from gsvnet.store.schema import FrameRow, ShardFooter
    from gsvnet.store.write import ShardWriter
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    root, rows = sys.argv[1], int(sys.argv[2])

    def write(root):
        footer = ShardFooter(job="f", video="v", uri="v.mp4", identity="i", time_base="1/25", shard=0, first_frame=0,
            model_hash="m", classes=CAMVID, precision="fp32", device="cpu", threads=1)
        os.makedirs(root + "/spool", exist_ok=True)
        with ShardWriter(root + "/labels/v/000000.parquet", footer=footer, spool_dir=root + "/spool") as writer:
            for i in range(rows):
                writer.append(FrameRow(frame_index=i, pts=i, time_s=i / 25, is_keyframe=True, keyframe_distance=0,
                    height=4, width=4, pixels=[i] * 11, mask=i.to_bytes(4, "little") * 100))
"""


def run_writer(
    folder: Path, rows: int, *, before: str = "", body: str = "write(root)", shell=()
) -> subprocess.CompletedProcess:
    code = "\n".join(textwrap.dedent(part) for part in (WRITER, before, body))
    command = [*shell, sys.executable, "-c", code, str(folder), str(rows)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


KILLER = """
    import gsvnet.store.publish, gsvnet.store.temporary, gsvnet.store.write
    from tests.dying import die_at_every_line
    gsvnet.store.write.MAX_ROW_GROUP_ROWS = 4

    write(f"{root}/warm")  # import what is imported late, once
    modules = gsvnet.store.publish, gsvnet.store.temporary, gsvnet.store.write
    print(die_at_every_line(modules, lambda step: write(f"{root}/{step:04d}")))
"""


def test_killed_at_every_line_leaves_no_part_of_a_shard(tmp_path):
    result = run_writer(tmp_path, rows=6, body=KILLER)
    assert result.returncode == 0, result.stderr
    steps = int(result.stdout)
    assert steps > 80
    complete, empty = 0, 0
    for step in range(1, steps + 1):
        root = tmp_path / f"{step:04d}"
        visible = list(root.glob("labels/**/*.parquet"))
        if visible:
            assert pq.read_table(visible[0]).num_rows == 6
        complete, empty = complete + len(visible), empty + (not visible)
        left = [path for path in files_below(root) if path not in visible]
        assert all(path.name.startswith(".") for path in left)
        spools = [path for path in left if path.parent.name == "spool"]
        assert sorted(sweep_spools(root / "spool")) == sorted(spools)
    assert complete > 5
    assert empty > 60


def test_a_footer_of_a_newer_version_is_refused_by_name(footer):
    metadata = {k.encode(): v.encode() for k, v in footer.to_metadata(1).items()}
    with pytest.raises(StoreError, match="schema version 99"):
        parse_footer({**metadata, b"gsvnet.schema_version": b"99"}, "x.parquet")


@pytest.mark.parametrize("key", ["gsvnet.video", "gsvnet.first_frame", "gsvnet.schema_version", "gsvnet.num_rows"])
def test_a_foreign_or_damaged_footer_is_no_label_file(footer, key):
    metadata = {k.encode(): v.encode() for k, v in footer.to_metadata(1).items() if k != key}
    with pytest.raises(CorruptLabels, match=key):
        parse_footer(metadata, "x.parquet")
    with pytest.raises(CorruptLabels):
        parse_footer(None, "x.parquet")


def test_rows_of_damaged_pictures_have_labels_like_any_other(row_of):
    row = replace(row_of(1), status="damaged")
    assert row.mask is not None
    with pytest.raises(StoreError, match="exactly if its status is ok or damaged"):
        replace(row, mask=None)
