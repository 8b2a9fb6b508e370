"""Row groups of an output, from the manifest or the footers, and the frames that are wanted of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gsvnet.store.manifest import write_derived
from gsvnet.store.read import open_labels
from gsvnet.store.row_groups import CHOICE_COLUMNS, FrameChoice, RowGroups, count_frames, list_row_groups
from tests.drawn import compact_by_hand

DRIVE, NIGHT = "drive-0123456789ab", "night-ba9876543210"


@pytest.fixture
def out(tmp_path, write_shard, monkeypatch) -> str:
    """Row groups of 4, 4, 2 rows, then 4, 1; of the other video 3."""
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    out = str(tmp_path / "out")
    write_shard(out, num_frames=10, lost=[3])
    write_shard(out, shard=1, first_frame=10, num_frames=5)
    write_shard(out, video=NIGHT, num_frames=3)
    return out


def places(groups: RowGroups) -> list[tuple[str, int]]:
    found = [groups.place(number) for number in range(len(groups))]
    return [("/".join(path.rsplit("/", 2)[1:]).removesuffix(".parquet"), group) for path, group in found]


def test_row_groups_are_numbered_through_the_files(out):
    expected = [(f"{DRIVE}/000000", i) for i in range(3)] + [(f"{DRIVE}/000001", i) for i in range(2)]
    assert places(list_row_groups(open_labels(out))) == [*expected, (f"{NIGHT}/000000", 0)]
    assert places(list_row_groups(open_labels(out), {NIGHT})) == [(f"{NIGHT}/000000", 0)]


def test_an_output_without_labels_has_no_row_groups(out):
    for path in Path(out).rglob("*.parquet"):
        path.unlink()
    assert len(list_row_groups(open_labels(out))) == 0


def test_files_that_the_manifest_knows_are_not_opened(out, write_shard):
    write_derived(out, complete=False)
    write_shard(out, shard=2, first_frame=15, num_frames=2)
    expected = places(list_row_groups(open_labels(out)))
    for path in Path(out, "labels").rglob("*.parquet"):
        if path.name != "000002.parquet":
            path.write_bytes(b"?" * path.stat().st_size)
    assert places(list_row_groups(open_labels(out))) == expected


def test_a_manifest_of_another_file_of_the_name_is_not_believed(out, write_shard):
    write_derived(out, complete=False)
    Path(out, "labels", NIGHT, "000000.parquet").unlink()
    write_shard(out, video=NIGHT, num_frames=9)
    assert places(list_row_groups(open_labels(out), {NIGHT})) == [(f"{NIGHT}/000000", i) for i in range(3)]


def test_compacted_files_are_listed_for_every_video_in_them(out, tmp_path):
    compact_by_hand(out, str(tmp_path / "compacted"), group_rows=6)
    labels = open_labels(str(tmp_path / "compacted"))
    assert places(list_row_groups(labels)) == [("compacted/000000", i) for i in range(3)]
    assert places(list_row_groups(labels, {NIGHT})) == [("compacted/000000", i) for i in range(3)]
    choice = FrameChoice(videos={NIGHT})
    assert count_frames(labels, list_row_groups(labels), choice).tolist() == [0, 0, 3]


@pytest.mark.parametrize(
    ("choice", "counts"),
    [
        (FrameChoice(), [3, 4, 2, 4, 1, 3]),
        (FrameChoice(every=5), [1, 1, 0, 1, 0, 1]),
        (FrameChoice(videos={DRIVE}), [3, 4, 2, 4, 1, 0]),
        (FrameChoice(indices={DRIVE: np.array([3, 4, 9, 14]), NIGHT: np.array([2])}), [0, 1, 1, 0, 1, 1]),
        (FrameChoice(indices={NIGHT: np.array([0, 1])}, every=2), [0, 0, 0, 0, 0, 1]),
    ],
)
def test_chosen_frames_are_counted_without_the_lost_ones(out, choice, counts):
    labels = open_labels(out)
    assert count_frames(labels, list_row_groups(labels), choice).tolist() == counts


def test_rows_of_several_videos_are_told_apart():
    table = pa.table({"video": ["a", "a", "b", "b"], "frame_index": [7, 8, 0, 7], "status": ["ok"] * 4})
    assert table.column_names == list(CHOICE_COLUMNS)
    assert FrameChoice(indices={"a": np.array([8]), "b": np.array([7])}).rows(table).tolist() == [1, 3]
    assert FrameChoice(videos={"b"}, every=7).rows(table).tolist() == [2, 3]
