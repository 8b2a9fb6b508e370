"""Drift chunk by chunk, and the frames that show it."""

from __future__ import annotations

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.store.drift import find_farthest, read_drift
from gsvnet.store.read import open_labels

VIDEO = "drive-0123456789ab"


@pytest.fixture
def out(tmp_path, write_shard) -> str:
    """Frames 0..19, a keyframe every five and at 12 too; the chunk of 5 drifted, that of 12 was not measured."""
    out = str(tmp_path / "out")
    path = write_shard(out, num_frames=20)
    change(path, "keyframe_interval", [5] * 20)
    change(path, "is_keyframe", [i in (0, 5, 10, 12, 15) for i in range(20)])
    change(path, "keyframe_distance", [i - max(k for k in (0, 5, 10, 12, 15) if k <= i) for i in range(20)])
    change(path, "drift_agreement", [{0: 1.0, 5: 0.75, 10: 0.5}.get(i) for i in range(20)])
    return out


def change(path: str, name: str, values: list) -> None:
    table = pq.read_table(path)
    at = table.column_names.index(name)
    field = table.schema.field(at)
    pq.write_table(table.set_column(at, field, pa.array(values, field.type)), path)


def test_a_frame_has_the_drift_of_its_chunk(out):
    drift = read_drift(open_labels(out), VIDEO)
    assert drift.keyframes.tolist() == [0, 5, 10, 12, 15]
    assert [drift.at(frame) for frame in (4, 5, 9, 11, 12)] == [0, 0.25, 0.25, 0.5, None]


def test_a_frame_before_any_keyframe_has_none(out):
    assert read_drift(open_labels(out), VIDEO).at(-1) is None


def test_the_farthest_frame_is_of_the_chunk_however_short_it_is(out):
    found = find_farthest(open_labels(out), {VIDEO: [5, 10]})
    assert {keyframe: frame for (_, keyframe), (frame, _) in found.items()} == {5: 9, 10: 11}
    assert found[VIDEO, 5][1] == pytest.approx(9 * 0.04)


def test_of_frames_equally_far_the_last_is_farthest(tmp_path, write_shard):
    out = str(tmp_path / "out")
    path = write_shard(out)
    change(path, "keyframe_interval", [5] * 10)
    change(path, "keyframe_distance", [0, 1, 2, 2, 1] * 2)  # as with two-sided propagation
    assert find_farthest(open_labels(out), {VIDEO: [0]})[VIDEO, 0][0] == 3


def test_nothing_asked_for_is_nothing_found(out):
    assert find_farthest(open_labels(out), {}) == {}


def test_a_damaged_interval_of_billions_of_frames_costs_little(tmp_path, write_shard):
    out = str(tmp_path / "out")
    change(write_shard(out), "keyframe_interval", [2**31 - 1] * 10)
    started = time.process_time()
    assert find_farthest(open_labels(out), {VIDEO: [0]})[VIDEO, 0][0] == 4
    assert time.process_time() - started < 5
