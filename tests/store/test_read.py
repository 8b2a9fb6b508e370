"""Reading labels back: order, gaps, lost frames, names, damage."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import uuid
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

import gsvnet.store.label_file as label_file
from gsvnet.errors import ConfigError, CorruptLabels, StoreError
from gsvnet.store.query import run_sql
from gsvnet.store.read import open_labels

VIDEO = "drive-0123456789ab"


@pytest.fixture
def out(tmp_path, write_shard) -> str:
    """Frames 0..9 and 10..29 of one video, 40..44 after a gap, and ten frames of another."""
    out = str(tmp_path / "out")
    write_shard(out, num_frames=10, lost=[3])
    write_shard(out, shard=1, first_frame=10, num_frames=20)
    write_shard(out, shard=3, first_frame=40, num_frames=5)
    write_shard(out, video="night-ba9876543210", uri="s3://videos/night.mp4")
    return out


def test_labels_come_in_the_order_asked_for(out, labels_of):
    labels = open_labels(out).labels_at(VIDEO, [12, 0, 42, 12, 9, 10])
    np.testing.assert_array_equal(labels, np.stack([labels_of(i) for i in (12, 0, 42, 12, 9, 10)]), strict=True)


def test_every_row_group_boundary_is_found(tmp_path, write_shard, labels_of, monkeypatch):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    out = str(tmp_path / "out")
    write_shard(out, num_frames=11)
    labels = open_labels(out)
    np.testing.assert_array_equal(labels.labels_at(VIDEO, range(11)), np.stack([labels_of(i) for i in range(11)]))
    assert [labels.row(VIDEO, i).pts for i in range(11)] == [i * 512 for i in range(11)]


def test_a_shard_of_seven_digits_is_read_last(tmp_path, write_shard, labels_of):
    out = str(tmp_path / "many")
    for number, shard in enumerate((999_998, 999_999, 1_000_000)):
        write_shard(out, shard=shard, first_frame=5 * number, num_frames=5)
    labels = open_labels(out)
    assert labels.indices(VIDEO).tolist() == list(range(15))
    np.testing.assert_array_equal(labels.labels_at(VIDEO, [12, 3]), np.stack([labels_of(12), labels_of(3)]))


@pytest.mark.parametrize("index", [True, np.True_, 1.0, np.float32(1), "1", None])
def test_what_is_no_integer_is_no_frame_index(out, index):
    labels = open_labels(out)
    for read in (labels.labels_at, lambda *asked: list(labels.stream(*asked))):
        with pytest.raises(ConfigError, match="is no frame index: an integer is needed"):
            read(VIDEO, [0, index])
    with pytest.raises(ConfigError, match="is no frame index: an integer is needed"):
        labels.row(VIDEO, index)


@pytest.mark.parametrize("index", [5, np.int64(5), np.array(5)])
def test_one_index_alone_is_no_list_of_indices(out, index):
    labels = open_labels(out)
    for read in (labels.labels_at, labels.uncertain_at, lambda *asked: list(labels.stream(*asked))):
        with pytest.raises(ConfigError, match="frame indices come as a list"):
            read(VIDEO, index)


def test_labels_say_what_they_are_of(out):
    assert repr(open_labels(out)) == f"<Labels of 2 videos and 11 classes at {out}>"


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_every_sort_of_integer_is_a_frame_index(out, kind, labels_of):
    np.testing.assert_array_equal(open_labels(out).labels_at(VIDEO, np.array([7], kind))[0], labels_of(7))


def test_each_file_is_opened_once_also_where_more_are_read_than_kept(tmp_path, write_shard, monkeypatch):
    monkeypatch.setattr(label_file, "_KEPT_FILES", 2)
    out = str(tmp_path / "many")
    for shard in range(4):
        write_shard(out, shard=shard, first_frame=5 * shard, num_frames=5)
    for letter in "abcd":
        write_shard(out, video=f"{letter}-0", uri=f"s3://videos/{letter}.mp4", num_frames=1)
    opened = []
    open_file = label_file.LabelFileReader._open
    monkeypatch.setattr(
        label_file.LabelFileReader, "_open", lambda self, path: opened.append(path) or open_file(self, path)
    )
    assert open_labels(out).indices(VIDEO).tolist() == list(range(20))
    assert len(opened) == 4
    opened.clear()
    assert open_labels(out).find_video("s3://videos/b.mp4") == "b-0"  # another reader, which has kept no file yet
    assert len(opened) == 5


def test_a_lost_frame_is_ignored_all_over(out, labels_of):
    labels = open_labels(out).labels_at(VIDEO, [2, 3])
    np.testing.assert_array_equal(labels[0], labels_of(2))
    assert (labels[1] == 255).all()


def test_no_indices_give_no_maps_of_the_right_size(out):
    assert open_labels(out).labels_at(VIDEO, []).shape == (0, 12, 20)


@pytest.mark.parametrize("index", [-1, 30, 39, 45, 10**12])
def test_missing_frames_are_named(out, index):
    with pytest.raises(StoreError, match=rf"{VIDEO} has no labels of frame {index}"):
        open_labels(out).labels_at(VIDEO, [0, index, index, 10])


def test_a_row_has_all_columns(out, row_of):
    row, expected = open_labels(out).row(VIDEO, 41), row_of(41)
    assert row.pixels == tuple(expected.pixels)
    assert (row.pts, row.mask, row.is_keyframe, row.codec) == (expected.pts, expected.mask, False, "contour1")
    assert open_labels(out).row(VIDEO, 3).status == "decode_error"


@pytest.mark.parametrize("name", [VIDEO, "drive", "s3://videos/drive.mp4", "drive.mp4"])
def test_a_video_is_found_by_id_stem_uri_and_file_name(out, name):
    assert open_labels(out).find_video(name) == VIDEO


@pytest.mark.parametrize("name", ["", "driv", "day", "000000"])
def test_an_unknown_video_is_a_config_error_that_lists_those_there(out, name):
    with pytest.raises(ConfigError, match=rf"{VIDEO}, night-"):
        open_labels(out).labels_at(name, [0])


def test_an_ambiguous_stem_is_a_config_error(out, write_shard):
    write_shard(out, video="drive-aaaaaaaaaaaa", uri="/other/drive.mp4")
    with pytest.raises(ConfigError, match="more than one"):
        open_labels(out).find_video("drive")


def test_classes_videos_job_and_footer(out):
    labels = open_labels(out)
    assert labels.classes.identifiers[8] == "car"
    assert labels.videos == [VIDEO, "night-ba9876543210"]
    assert labels.job.fields["keyframe_interval"] == 5
    assert labels.footer("night").uri == "s3://videos/night.mp4"


def test_uncertain_maps_come_in_the_order_asked_for(tmp_path, write_shard, uncertain_of):
    out = str(tmp_path / "full")
    write_shard(out, full=True)
    maps = open_labels(out).uncertain_at("drive", [7, 5, 2, 7])
    expected = [uncertain_of(7), np.full((12, 20), 255), uncertain_of(2), uncertain_of(7)]  # 5: a keyframe, one way
    np.testing.assert_array_equal(maps, np.array(expected, np.uint8), strict=True)


def test_a_frame_that_is_lost_or_labeled_in_one_way_has_no_uncertain_map(out):
    assert (open_labels(out).uncertain_at(VIDEO, [2, 3]) == 255).all()
    with pytest.raises(StoreError, match="has no labels of frame 35"):
        open_labels(out).uncertain_at(VIDEO, [35])


def test_an_uncertain_map_of_other_values_is_corrupt(tmp_path, write_shard, monkeypatch):
    out = str(tmp_path / "full")
    write_shard(out, full=True)
    monkeypatch.setattr(label_file, "decode_mask", lambda data, height, width: np.full((height, width), 2, np.uint8))
    with pytest.raises(CorruptLabels, match="frame 7: mask_uncertain holds 2; it must be 0 or 1"):
        open_labels(out).uncertain_at(VIDEO, [7])


def test_drift_and_confidence_by_class_are_columns_of_frames(tmp_path, write_shard):
    out = str(tmp_path / "full")
    write_shard(out, full=True)
    frames = open_labels(out).frames
    drifted = frames.to_table(columns=["frame_index", "drift_agreement"], filter=pads.field("drift_agreement") < 0.9)
    assert drifted.to_pylist() == [{"frame_index": 5, "drift_agreement": 1 - 5 / 16}]
    sure = frames.to_table(columns=["frame_index"], filter=pads.field("class_confidence", "car") > 0.7)
    assert sure["frame_index"].to_pylist() == [6, 7]


def test_frames_is_a_dataset_with_filters(out):
    table = open_labels(out).frames.to_table(
        columns=["frame_index"], filter=(pads.field("video") == VIDEO) & (pads.field("pixels", "car") > 50)
    )
    assert table["frame_index"].to_pylist() == [17, 18, 19]


def test_only_the_needed_row_groups_are_read(tmp_path, write_shard, monkeypatch):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    out = str(tmp_path / "out")
    write_shard(out, num_frames=40)
    path = next(Path(out).rglob("*.parquet"))
    damage_column(path, "mask", groups=[i for i in range(10) if i != 5])
    assert len(open_labels(out).labels_at(VIDEO, [20, 23, 21])) == 3
    with pytest.raises(CorruptLabels, match="row group 4"):
        open_labels(out).labels_at(VIDEO, [19])


def test_labels_survive_pickling(out, labels_of):
    labels = pickle.loads(pickle.dumps(open_labels(out)))
    np.testing.assert_array_equal(labels.labels_at(VIDEO, [7])[0], labels_of(7))


def test_memory_store_reads_the_same(write_shard, labels_of):
    out = f"memory://{uuid.uuid4().hex}"
    write_shard(out)
    labels = open_labels(out)
    np.testing.assert_array_equal(labels.labels_at("drive", [4])[0], labels_of(4))
    assert labels.frames.count_rows() == 10


def test_an_empty_output_has_no_videos_and_no_rows(tmp_path, write_shard):
    write_shard(str(tmp_path / "out"))
    next((tmp_path / "out").rglob("*.parquet")).unlink()
    labels = open_labels(str(tmp_path / "out"))
    assert labels.videos == []
    assert labels.frames.count_rows() == 0


def test_reading_needs_neither_torch_nor_ray_nor_av():
    code = "import sys, gsvnet.store.read; print({'torch', 'ray', 'av', 's3fs', 'botocore'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_what_is_no_output_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="no output"):
        open_labels(str(tmp_path))


def test_a_truncated_file_is_corrupt(out):
    path = Path(out) / "labels" / VIDEO / "000000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptLabels, match=r"000000\.parquet"):
        open_labels(out).labels_at(VIDEO, [0])


def test_a_flipped_byte_in_a_mask_is_corrupt(out):
    path = Path(out) / "labels" / VIDEO / "000000.parquet"
    mask = open_labels(out).row(VIDEO, 5).mask
    data = path.read_bytes()
    at = data.index(mask) + len(mask) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(CorruptLabels, match=r"000000\.parquet"):
        open_labels(out).labels_at(VIDEO, [5])


def test_an_unknown_codec_asks_for_an_upgrade(out, monkeypatch):
    monkeypatch.setattr(label_file, "CODEC", "contour2")
    with pytest.raises(StoreError, match=r"frame 5: codec 'contour1'.*upgrade"):
        open_labels(out).labels_at(VIDEO, [5])


# --- SQL ------------------------------------------------------------------------------------------------------------


def damage_column(path: Path, column: str, groups: list[int]) -> None:
    """Overwrite a column's bytes in some row groups: who reads them notices."""
    data = bytearray(path.read_bytes())
    metadata = pq.read_metadata(path)
    for group in groups:
        row_group = metadata.row_group(group)
        (chunk,) = [c for i in range(row_group.num_columns) if (c := row_group.column(i)).path_in_schema == column]
        start = chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)


def documented_query() -> str:
    text = (Path(label_file.__file__).parent / "FORMAT.md").read_text()
    (query,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    return query


def test_the_documented_query_runs(out, monkeypatch):
    monkeypatch.chdir(Path(out).parent)
    assert duckdb.sql(documented_query()).fetchall() == []  # the maps have 240 pixels
    rows = duckdb.sql(documented_query().replace("20000", "50") + " order by frame_index").fetchall()
    assert rows == [(17, 51), (18, 54), (19, 57)]


def test_a_class_query_reads_no_mask_and_skips_row_groups(tmp_path, write_shard, monkeypatch):
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 10)
    monkeypatch.chdir(tmp_path)
    write_shard("out", num_frames=20)  # cars grow: row groups 0..9 and 10..19
    path = next(Path("out").rglob("*.parquet"))
    damage_column(path, "mask", [0, 1])
    query = documented_query().replace("20000", "50")
    assert len(duckdb.sql(query).fetchall()) == 3
    damage_column(path, "frame_index", [0])
    damage_column(path, "pixels.car", [0])
    assert len(duckdb.sql(query).fetchall()) == 3
    with pytest.raises(duckdb.Error):
        duckdb.sql(query.replace("> 50", "> 5")).fetchall()


def test_a_query_of_drift_reads_no_mask_of_either_sort(tmp_path, write_shard):
    out = str(tmp_path / "full")
    path = Path(write_shard(out, full=True))
    for column in ("mask", "mask_uncertain"):
        damage_column(path, column, [0])
    table = run_sql(open_labels(out), "select frame_index, drift_iou.car as car from frames where drift_agreement < 1")
    assert table.to_pylist() == [{"frame_index": 5, "car": 5 / 16}]
    with pytest.raises(CorruptLabels):
        open_labels(out).uncertain_at(VIDEO, [7])


def test_derived_and_temporary_files_are_not_in_the_glob(out, monkeypatch):
    monkeypatch.chdir(Path(out).parent)
    (Path(out) / "labels" / VIDEO / ".gsvnet-host-1-2.tmp").write_bytes(b"half")
    assert duckdb.sql("select count(*) from 'out/labels/**/*.parquet'").fetchall() == [(45,)]
