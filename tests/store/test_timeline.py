"""Videos summed up and over time: exact figures, and no byte of a mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.store.read import open_labels
from gsvnet.store.sources import compacted_metadata, parse_sources
from gsvnet.store.timeline import read_timelines, summarise_videos

VIDEO, OTHER = "drive-0123456789ab", "night-ba9876543210"
CAR, AREA = 8, 12 * 20


@pytest.fixture
def out(tmp_path, write_shard) -> str:
    """Frames 0..9 (3 and 4 lost) and 20..29 of one video, and ten frames of another."""
    out = str(tmp_path / "out")
    write_shard(out, lost=[3, 4])
    write_shard(out, shard=2, first_frame=20)
    write_shard(out, video=OTHER, uri="s3://videos/night.mp4")
    return out


def timeline_of(out: str, video: str = VIDEO, **options):
    labels = open_labels(out)
    return read_timelines(labels, summarise_videos(labels, [video]), **options)[video]


def spoil_masks(path: Path) -> None:
    """Overwrite the bytes of the column `mask`: who reads them notices."""
    data, metadata = bytearray(path.read_bytes()), pq.read_metadata(path)
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        columns = [group.column(i) for i in range(group.num_columns)]
        (chunk,) = [column for column in columns if column.path_in_schema == "mask"]
        start, size = chunk.data_page_offset, chunk.total_compressed_size
        data[start : start + size] = b"\xff" * size
    path.write_bytes(data)


def test_a_summary_counts_frames_lost_ones_and_gaps(out):
    drive, night = summarise_videos(open_labels(out))
    assert (drive.video, drive.uri) == (VIDEO, "s3://videos/drive.mp4")
    assert (drive.frames, drive.lost, drive.missing, drive.first_frame, drive.last_frame) == (20, 2, 10, 0, 29)
    assert drive.frame_s == pytest.approx(0.04)
    assert drive.labeled_s == pytest.approx(20 * 0.04)
    assert drive.end_s == pytest.approx(30 * 0.04)
    assert (night.video, night.frames, night.missing) == (OTHER, 10, 0)


def test_a_summary_leaves_lost_frames_out_of_means_and_shares(out, row_of):
    drive = summarise_videos(open_labels(out))[0]
    seen = [row_of(i) for i in (*range(3), *range(5, 10), *range(20, 30))]
    assert drive.confidence == pytest.approx(np.mean([row.confidence for row in seen]), abs=1e-6)
    assert drive.lowest_confidence == pytest.approx(0.5)
    assert drive.shares[CAR] == pytest.approx(sum(row.pixels[CAR] for row in seen) / (AREA * len(seen)), rel=1e-6)
    assert sum(drive.shares) == pytest.approx(1 - 1 / AREA)  # one ignored pixel


def test_asked_for_one_video_no_file_of_another_is_opened(out):
    for path in (Path(out) / "labels" / OTHER).iterdir():
        path.write_bytes(b"nothing")
    (drive,) = summarise_videos(open_labels(out), [VIDEO])
    assert drive.video == VIDEO


def test_no_mask_is_read(out):
    for path in Path(out).rglob("labels/*/*.parquet"):
        spoil_masks(path)
    labels = open_labels(out)
    assert len(read_timelines(labels, summarise_videos(labels))) == 2


def test_an_output_without_labels_has_no_video(out):
    for path in Path(out).rglob("labels/*/*.parquet"):
        path.unlink()
    labels = open_labels(out)
    assert summarise_videos(labels) == []
    assert read_timelines(labels, []) == {}


def test_few_frames_have_a_bin_each(out, row_of):
    timeline = timeline_of(out)
    assert timeline.first_frame.tolist() == [*range(10), *range(20, 30)]
    assert set(timeline.num_frames) == {1}
    np.testing.assert_allclose(timeline.start_s, timeline.first_frame * 0.04)
    np.testing.assert_allclose(timeline.end_s, (timeline.first_frame + 1) * 0.04)
    assert timeline.shares[12, CAR] == pytest.approx(row_of(22).pixels[CAR] / AREA)
    assert np.isnan(timeline.shares[3]).all()
    assert timeline.labeled_frame[2:6].tolist() == [2, -1, -1, 5]


def test_many_frames_are_binned_with_their_mean_and_least(out, row_of):
    timeline = timeline_of(out, max_bins=4)  # 30 frames: bins of 8, of which 8..15 has two and 16..23 four rows
    assert timeline.first_frame.tolist() == [0, 8, 20, 24]
    assert timeline.num_frames.tolist() == [8, 2, 4, 6]
    assert timeline.num_lost.tolist() == [2, 0, 0, 0]
    rows = [row_of(i) for i in range(24, 30)]
    assert timeline.confidence[3] == pytest.approx(np.mean([row.confidence for row in rows]), abs=1e-6)
    assert timeline.confidence_min[3] == pytest.approx(rows[0].confidence)
    assert timeline.confidence_p05[3] == 0.25
    assert timeline.least_confident.tolist() == [0, 8, 20, 24]
    assert timeline.shares[3, CAR] == pytest.approx(np.mean([row.pixels[CAR] for row in rows]) / AREA)


def test_a_bin_ends_where_the_next_goes_on_however_long_its_frames_stay(out):
    path = Path(out) / "labels" / VIDEO / "000000.parquet"
    table, times = pq.read_table(path), [0.0, 0.1, 0.2, 0.3, 2.3, 4.3, 4.4, 4.5, 4.6, 4.7]
    at = table.column_names.index("time_s")
    pq.write_table(table.set_column(at, table.field(at), pa.array(times)), path)
    path.with_name("000002.parquet").unlink()
    timeline = timeline_of(out, max_bins=5)
    assert timeline.last_frame.tolist() == [1, 3, 5, 7, 9]
    np.testing.assert_allclose(timeline.end_s, [0.2, 2.3, 4.4, 4.6, 4.7 + 4.7 / 9])


def test_the_bin_before_a_gap_ends_before_the_frames_after_it(out):
    timeline = timeline_of(out, max_bins=4)
    assert timeline.last_frame.tolist() == [7, 9, 23, 29]
    np.testing.assert_allclose(timeline.end_s, [8 * 0.04, 10 * 0.04, 24 * 0.04, 30 * 0.04])


def test_keyframes_are_the_first_of_their_bins(out):
    timeline = timeline_of(out, max_bins=4)
    np.testing.assert_allclose(timeline.keyframe_s, np.array([0, 20, 25]) * 0.04)
    assert timeline.num_keyframes == 4  # 0, 5, 20, 25


def test_lost_frames_that_follow_each_other_are_one_run(tmp_path, write_shard):
    out = str(tmp_path / "out")
    write_shard(out, lost=[0, 3, 4, 5, 9])
    runs = timeline_of(out).lost_runs
    assert [(run.first_frame, run.num_frames) for run in runs] == [(0, 1), (3, 3), (9, 1)]
    assert (runs[1].start_s, runs[1].end_s) == (pytest.approx(0.12), pytest.approx(0.24))


def test_a_video_of_lost_frames_and_one_of_one_frame(tmp_path, write_shard):
    out = str(tmp_path / "out")
    write_shard(out, num_frames=3, lost=range(3))
    write_shard(out, video=OTHER, num_frames=1)
    lost, single = summarise_videos(open_labels(out))
    assert (lost.confidence, lost.lowest_confidence, set(lost.shares)) == (None, None, {0.0})
    assert np.isnan(timeline_of(out).confidence).all()
    assert timeline_of(out).least_confident.tolist() == [-1, -1, -1]
    assert (single.frame_s, single.labeled_s) == (0, 0)
    assert len(timeline_of(out, OTHER).start_s) == 1


def with_drift(path: str, agreement: dict[int, float]) -> None:
    """Rewrite a file so that these frames have a drift_agreement, and no others."""
    table = pq.read_table(path)
    column = pa.array([agreement.get(i) for i in table["frame_index"].to_pylist()], pa.float32())
    at = table.column_names.index("drift_agreement")
    pq.write_table(table.set_column(at, table.schema.field(at), column), path)


def test_drift_is_there_only_where_it_was_measured(tmp_path, write_shard):
    out = str(tmp_path / "out")
    path = write_shard(out, num_frames=20)
    (before,) = summarise_videos(open_labels(out))
    assert (timeline_of(out).drift, before.drift, before.most_drift) == (None, None, None)
    with_drift(path, {0: 0.9, 5: 0.5, 10: 0.75})
    (drive,) = summarise_videos(open_labels(out))
    assert (drive.drift, drive.most_drift) == (pytest.approx(0.85 / 3), pytest.approx(0.5))
    timeline = timeline_of(out, max_bins=2)
    np.testing.assert_allclose(timeline.drift, [0.3, 0.25], rtol=1e-6)
    np.testing.assert_allclose(timeline.drift_max, [0.5, 0.25], rtol=1e-6)
    assert timeline.drifted_keyframe.tolist() == [5, 10]


def test_bins_in_which_no_chunk_begins_have_the_drift_of_theirs(tmp_path, write_shard):
    out = str(tmp_path / "out")
    with_drift(write_shard(out, num_frames=20), {0: 0.9, 10: 0.75})
    write_shard(out, shard=2, first_frame=23, num_frames=2)  # after a gap, without a keyframe
    nothing, last = [np.nan] * 5, [np.nan] * 2
    np.testing.assert_allclose(timeline_of(out).drift, [*[0.1] * 5, *nothing, *[0.25] * 5, *nothing, *last], rtol=1e-6)


def test_a_compacted_output_with_two_videos_in_a_file(out):
    paths = sorted(Path(out).rglob("labels/*/*.parquet"))
    sources = [source for path in paths for source in parse_sources(pq.read_metadata(path).metadata, str(path))]
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    before = summarise_videos(open_labels(out)), timeline_of(out).confidence.tolist()
    for path in paths:
        path.unlink()
    pq.write_table(table.replace_schema_metadata(compacted_metadata(sources)), paths[0])
    job = Path(out) / "_job.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | {"compacted": {"source": "/elsewhere"}}))
    assert summarise_videos(open_labels(out)) == before[0]
    np.testing.assert_array_equal(timeline_of(out).confidence, before[1])
