"""Labels by time, in ranges and as streams: variable frame rates, gaps, borders of shards, bounded memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gsvnet.errors import ConfigError, CorruptLabels, StoreError
from gsvnet.store.read import Labels, open_labels
from tests.drawn import TICKS, Drawn, compact_by_hand, write_video

VIDEO, OTHER = "drive-0123456789ab", "night-ba9876543210"
# Ten frames, 10 a second, then ten, 5 a second; both in shards of five. After a gap five more.
TIMES = [*(1 + np.arange(10) / 10), *(2 + np.arange(10) / 5)]
AFTER_GAP = [10 + i / 2 for i in range(5)]
GAP = 10  # frames


def draw(index: int) -> np.ndarray:
    labels = np.zeros((4, 40), np.uint8)
    labels[1, :index] = 3
    return labels


def on_grid(seconds: float) -> float:
    """The time as the file has it: whole ticks."""
    return round(seconds * TICKS) / TICKS


def write_outputs(folder: Path) -> dict[str, str]:
    """The same frames as shards and compacted, where one row group holds the end of one video and another's start."""
    out, spool = str(folder / "out"), folder / "spool"
    frames = [Drawn(labels=draw(i), time_s=time) for i, time in enumerate(TIMES)]
    write_video(out, VIDEO, frames, spool=spool, shard_frames=5)
    start = len(TIMES) + GAP
    late = [Drawn(labels=draw(start + i), time_s=time) for i, time in enumerate(AFTER_GAP)]
    write_video(out, VIDEO, late, spool=spool, first_frame=start, first_shard=6)
    write_video(out, OTHER, [Drawn(labels=np.full((2, 3), 7, np.uint8), time_s=0.5)], spool=spool)
    compact_by_hand(out, str(folder / "compacted"), group_rows=8)
    return {"shards": out, "compacted": str(folder / "compacted")}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, str]:
    return write_outputs(tmp_path_factory.mktemp("by-time"))


@pytest.fixture(params=["shards", "compacted"])
def labels(request, outputs) -> Labels:
    return open_labels(outputs[request.param])


INDICES = [*range(20), *range(30, 35)]
ALL_TIMES = [on_grid(time) for time in (*TIMES, *AFTER_GAP)]


def test_the_exact_times_of_rows_give_these_rows(labels):
    assert labels.frames_played_at("drive", ALL_TIMES).tolist() == INDICES
    assert labels.frames_played_at("drive", ALL_TIMES[::-1]).tolist() == INDICES[::-1]
    stored = labels.frames.to_table(columns=["video", "time_s"]).to_pylist()
    assert [row["time_s"] for row in stored if row["video"] == VIDEO] == ALL_TIMES


def test_a_frame_is_on_screen_until_the_next_one(labels):
    before_next = [float(np.nextafter(time, 0)) for time in ALL_TIMES[1:20]]
    assert labels.frames_played_at("drive", before_next).tolist() == list(range(19))
    halfway = [(a + b) / 2 for a, b in pairwise(ALL_TIMES[:20])]
    assert labels.frames_played_at("drive", halfway).tolist() == list(range(19))


def test_labels_are_those_of_the_frames_on_screen(labels):
    found = labels.labels_played_at("drive", [3.85, 1.0, 1.05, 11.6, 1.0])
    np.testing.assert_array_equal(found, np.stack([draw(i) for i in (19, 0, 0, 33, 0)]), strict=True)
    assert labels.labels_played_at("drive", []).shape == (0, 4, 40)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (0.999, "first frame is shown later"),
        (-1.0, "first frame is shown later"),
        (float("nan"), "it is no time"),
        (5.0, r"frame 19, at 3\.800 s, is the last before a gap"),
        (4.0, "frame 19"),
        (12.5, r"frame 34, at 12\.000 s, is the last with labels"),
        (float("inf"), "frame 34"),
    ],
)
def test_times_without_labels_are_store_errors(labels, second, message):
    with pytest.raises(StoreError, match=message):
        labels.frames_played_at("drive", [1.0, second])


def test_the_last_frame_is_on_screen_as_long_as_those_before(labels):
    assert labels.frames_played_at("drive", [3.999, 12.499]).tolist() == [19, 34]


def test_a_last_shard_of_one_frame_is_on_screen_as_long_as_those_before(tmp_path):
    out = str(tmp_path / "out")
    write_video(out, VIDEO, [Drawn(labels=draw(i), time_s=i / 4) for i in range(6)], spool=tmp_path, shard_frames=5)
    labels = open_labels(out)
    assert labels.frames_played_at("drive", [1.24, 1.25, 1.49]).tolist() == [4, 5, 5]
    with pytest.raises(StoreError, match="frame 5"):
        labels.frames_played_at("drive", [1.5])


def test_a_single_frame_is_found_by_its_own_time_only(labels):
    assert labels.frames_played_at("night", [0.5]).tolist() == [0]
    with pytest.raises(StoreError, match="last with labels"):
        labels.frames_played_at("night", [0.501])


def test_times_of_an_unknown_video_are_a_config_error(labels):
    with pytest.raises(ConfigError, match="dusk"):
        labels.frames_played_at("dusk", [1.0])


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, 20, 1), (3, 12, 1), (4, 6, 1), (0, 20, 7), (30, 35, 2), (19, 31, 11), (5, 5, 1)]
)
def test_ranges_cross_the_borders_of_shards(labels, start, stop, step):
    expected = [draw(i) for i in range(start, stop, step)]
    found = labels.labels_in_range("drive", start, stop, step)
    np.testing.assert_array_equal(found, np.array(expected, np.uint8).reshape(-1, 4, 40), strict=True)


def test_an_empty_range_has_the_size_of_a_mask(labels):
    assert labels.labels_in_range("drive", 9, 3).shape == (0, 4, 40)
    assert labels.labels_in_range("night", 0, 0).shape == (0, 2, 3)


def test_ranges_over_a_gap_name_the_missing_frames(labels):
    with pytest.raises(StoreError, match="no labels of frame 20, 21"):
        labels.labels_in_range("drive", 18, 22)
    with pytest.raises(ConfigError, match="step 0"):
        labels.labels_in_range("drive", 0, 10, 0)


def test_a_stream_holds_all_frames_in_order(labels):
    frames = list(labels.stream("drive"))
    assert [frame.row.frame_index for frame in frames] == INDICES
    assert {frame.video for frame in frames} == {VIDEO}
    for frame in frames:
        np.testing.assert_array_equal(frame.labels, draw(frame.row.frame_index), strict=True)


def test_a_stream_of_some_frames(labels):
    assert [f.row.frame_index for f in labels.stream("drive", [1, 4, 5, 19, 30])] == [1, 4, 5, 19, 30]
    assert [f.row.frame_index for f in labels.stream("drive", np.arange(0, 20, 6))] == [0, 6, 12, 18]
    assert list(labels.stream("drive", [])) == []


def test_a_stream_names_missing_frames(labels):
    with pytest.raises(StoreError, match="no labels of frame 25"):
        list(labels.stream("drive", [3, 25]))


def test_a_stream_reads_a_row_group_when_it_comes_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    out = write_outputs(tmp_path)["shards"]
    labels = open_labels(out)
    read_group, read = labels.files.read_group, []
    labels.files.read_group = lambda path, group, *columns: (
        read.append((path[-14:], group)) or read_group(path, group, *columns)
    )
    stream = labels.stream("drive", range(20))
    for index, frame in zip(range(20), stream):
        assert frame.row.frame_index == index
        assert len(read) == 2 * (index // 5) + index % 5 // 4 + 1


def test_many_frames_are_located_in_portions(labels, monkeypatch):
    monkeypatch.setattr("gsvnet.store.read._LOCATED_AT_ONCE", 3)
    assert [frame.row.frame_index for frame in labels.stream("drive")] == INDICES


def test_a_lost_frame_streams_without_labels(tmp_path):
    out = str(tmp_path / "out")
    frames = [Drawn(labels=None if i == 1 else draw(i), time_s=i / 10, size=(4, 40)) for i in range(3)]
    write_video(out, VIDEO, frames, spool=tmp_path / "spool")
    lost = list(open_labels(out).stream("drive"))[1]
    assert (lost.row.status, lost.row.mask) == ("decode_error", None)
    assert lost.labels.shape == (4, 40)
    assert (lost.labels == 255).all()


def test_damage_in_a_stream_names_file_and_frame(tmp_path):
    out = write_outputs(tmp_path)["shards"]
    path = Path(out) / "labels" / VIDEO / "000001.parquet"
    mask = open_labels(out).row(VIDEO, 7).mask
    data = path.read_bytes()
    at = data.index(mask) + len(mask) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    stream = open_labels(out).stream("drive")
    assert [next(stream).row.frame_index for _ in range(5)] == list(range(5))
    with pytest.raises(CorruptLabels, match=r"000001\.parquet"):
        next(stream)


def test_indices_and_sources(labels):
    assert labels.indices("drive").tolist() == INDICES
    assert labels.indices("drive").dtype == np.int64
    assert labels.indices("night").tolist() == [0]
    sources = labels.sources("drive")
    assert [(s.first_frame, s.stop_frame) for s in sources] == [(0, 5), (5, 10), (10, 15), (15, 20), (30, 35)]
    assert [s.footer.shard for s in sources] == [0, 1, 2, 3, 6]
    assert labels.videos == [VIDEO, OTHER]


def test_the_class_table_has_a_row_per_class(labels):
    table = labels.class_table
    assert table.column_names == ["id", "name", "identifier", "colour"]
    assert table.slice(6, 1).to_pylist() == [
        {"id": 6, "name": "sign symbol", "identifier": "sign_symbol", "colour": "#c08080"}
    ]
    assert table["id"].to_pylist() == list(range(len(labels.classes)))
