from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.evaluation.camvid import is_clip, list_frames, open_camvid

VOID = 11


@pytest.fixture
def truths() -> np.ndarray:
    return np.arange(3 * 6 * 8).reshape(3, 6, 8) % 12


@pytest.fixture
def root(tmp_path, truths, write_camvid) -> Path:
    return write_camvid(tmp_path / "camvid", truths)


def test_frames_hold_their_image_and_truth_with_void_ignored(root, truths):
    frames = list_frames(root, "val")
    assert [frame.frame_30hz for frame in frames] == [100, 102, 104]
    image, truth = frames[1].read()
    assert (image.shape, image.dtype, image[0, 0, 2]) == ((6, 8, 3), np.uint8, 1)
    np.testing.assert_array_equal(truth, np.where(truths[1] == VOID, 255, truths[1]))


def test_frames_close_in_time_are_a_clip(root, tmp_path, truths, write_camvid):
    assert is_clip(list_frames(root, "val"))
    assert not is_clip(list_frames(write_camvid(tmp_path / "far", truths, split="test", step=30), "test"))


def test_real_camvid_has_its_known_splits(data_dir):
    splits = {split: list_frames(data_dir / "camvid", split) for split in ("train", "val", "test")}
    assert {split: len(frames) for split, frames in splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert {split: is_clip(frames) for split, frames in splits.items()} == {"train": False, "val": True, "test": False}
    image, truth = splits["test"][200].read()
    assert image.shape == (360, 480, 3)
    assert set(np.unique(truth)) <= {*range(11), 255}


@pytest.mark.parametrize("missing", ["images/val", "labels/val", "index.csv", "classes.json"])
def test_a_missing_part_is_named(root, missing):
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(ConfigError, match=f"no .*{missing}"):
        list_frames(root, "val")


@pytest.mark.parametrize("missing", ["images/val/drive_00102.webp", "labels/val/drive_00102.png"])
def test_a_missing_file_is_named(root, missing):
    (root / missing).unlink()
    with pytest.raises(ConfigError, match=missing.rsplit(".", 1)[0]):
        list_frames(root, "val")


def test_an_unknown_split_is_refused(root):
    with pytest.raises(ConfigError, match="'valid'; allowed: train, val, test"):
        list_frames(root, "valid")


def test_a_split_without_rows_is_refused(root):
    (root / "images" / "test").mkdir()
    (root / "labels" / "test").mkdir()
    with pytest.raises(ConfigError, match="no row of split 'test'"):
        list_frames(root, "test")


def test_an_incomplete_row_is_refused(root):
    with (root / "index.csv").open("a") as index:
        index.write("val,drive\n")
    with pytest.raises(ConfigError, match=r"no image .*, which index.csv names"):
        list_frames(root, "val")


def test_an_index_that_is_no_text_is_named(root):
    (root / "index.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read .*index.csv"):
        list_frames(root, "val")


def test_a_frame_named_twice_is_refused(root):
    index = root / "index.csv"
    index.write_text(index.read_text() + index.read_text().splitlines()[-1] + "\n")
    with pytest.raises(ConfigError, match=r"index.csv has 2 rows of drive_00104 in split 'val'"):
        list_frames(root, "val")


@pytest.mark.parametrize("void", [3, 256])
def test_void_must_be_an_id_beside_the_classes(root, void):
    about = json.loads((root / "classes.json").read_text())
    (root / "classes.json").write_text(json.dumps(about | {"void": void}))
    with pytest.raises(ConfigError, match=f"classes.json: void is {void}; allowed: 11 to 255"):
        list_frames(root, "val")


def test_other_classes_are_refused(root):
    (root / "classes.json").write_text(json.dumps({"classes": ["sky", "sea"], "void": 2}))
    with pytest.raises(ConfigError, match="'sea'"):
        list_frames(root, "val")


def test_an_unreadable_index_names_its_missing_columns(root):
    (root / "index.csv").write_text("split,name\nval,drive_00100\n")
    with pytest.raises(ConfigError, match=r"index.csv lacks the columns .*stem"):
        list_frames(root, "val")


def test_wrong_ids_name_file_and_value(root):
    path = root / "labels" / "val" / "drive_00100.png"
    Image.fromarray(np.full((6, 8), 12, np.uint8)).save(path)
    with pytest.raises(ConfigError, match=r"drive_00100.png: class id 12"):
        list_frames(root, "val")[0].read()


def test_labels_of_another_size_name_file_and_sizes(root):
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(root / "labels" / "val" / "drive_00100.png")
    with pytest.raises(ConfigError, match=r"drive_00100.png.*\(5, 8\).*\(6, 8\)"):
        list_frames(root, "val")[0].read()


def test_coloured_labels_are_refused(root):
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(root / "labels" / "val" / "drive_00100.png")
    with pytest.raises(ConfigError, match="one 8-bit channel"):
        list_frames(root, "val")[0].read()


def test_a_broken_image_is_named(root):
    (root / "images" / "val" / "drive_00100.webp").write_bytes(b"not an image")
    with pytest.raises(ConfigError, match=r"cannot read .*drive_00100.webp"):
        list_frames(root, "val")[0].read()


def test_without_pillow_the_extra_is_named(root, monkeypatch):
    frame = list_frames(root, "val")[0]
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gsvnet\[evaluate\]'"):
        frame.read()


# --- what is scored ---


def test_on_a_clip_the_frames_that_every_distance_reaches_are_scored(root):
    data = open_camvid(root, "val", keyframe_interval=2)
    assert [(clip.name, clip.scored) for clip in data.clips] == [("drive", (1, 2))]
    assert (data.keyframe_interval, data.num_scored) == (2, 2)
    assert data.step_ms == pytest.approx(66.667, abs=1e-3)


@pytest.fixture
def stills(tmp_path, truths, write_camvid) -> Path:
    """Three images 30 frames apart, the first at frame 100, and two frames before each of the last two."""
    root = write_camvid(tmp_path / "stills", truths, split="test", step=30)
    (root / "frames" / "drive").mkdir(parents=True)
    for number in (98, 99, 128, 129, 158, 159):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(root / "frames" / "drive" / f"drive_{number:05d}.png")
    return root


def test_frames_between_the_labelled_ones_make_propagation_scorable(stills):
    data = open_camvid(stills, "test", keyframe_interval=3)
    assert [(clip.name, clip.scored, len(clip.frames)) for clip in data.clips] == [
        ("drive_00100", (2,), 3),
        ("drive_00130", (2,), 3),
        ("drive_00160", (2,), 3),
    ]
    clip = data.clips[1]
    assert [int(frame.read_image()[0, 0, 0]) for frame in clip.frames[:2]] == [128, 129]
    assert [frame.labels is not None for frame in clip.frames] == [False, False, True]
    assert data.step_ms == pytest.approx(33.333, abs=1e-3)


def test_a_missing_frame_before_a_labelled_one_is_named(stills):
    (stills / "frames" / "drive" / "drive_00129.png").unlink()
    with pytest.raises(ConfigError, match=r"no image .*drive_00129.*before drive_00130"):
        open_camvid(stills, "test", keyframe_interval=2)


def test_a_labelled_frame_that_starts_its_drive_is_left_out_with_a_note(tmp_path, stills):
    index = stills / "index.csv"
    index.write_text(index.read_text().replace("drive,100,", "drive,1,"))
    data = open_camvid(stills, "test", keyframe_interval=3)
    assert [clip.name for clip in data.clips] == ["drive_00130", "drive_00160"]
    assert data.notes == ("not scored, since the drive starts there: drive_00100",)


def test_a_split_whose_drives_all_start_with_the_labelled_frame_is_refused(stills):
    index = stills / "index.csv"
    index.write_text(re.sub(r"drive,\d+,", "drive,0,", index.read_text()))
    with pytest.raises(ConfigError, match="no labelled frame of camvid test has 2 frames before it"):
        open_camvid(stills, "test", keyframe_interval=3)


def test_without_frames_between_only_distance_0_is_scored_and_a_note_says_so(tmp_path, truths, write_camvid):
    root = write_camvid(tmp_path / "far", truths, split="test", step=30)
    data = open_camvid(root, "test", keyframe_interval=4)
    assert (data.keyframe_interval, data.num_scored, data.step_ms) == (1, 3, None)
    assert "only distance 0 is scored (more: with all images in frames/)" in data.notes[0]
    assert open_camvid(root, "test", keyframe_interval=1).notes == ()


def test_a_clip_that_lacks_a_frame_is_not_taken_for_stills(tmp_path, write_camvid):
    root = write_camvid(tmp_path / "gap", np.zeros((4, 6, 8), int))
    index = root / "index.csv"
    index.write_text("".join(row for row in index.read_text().splitlines(keepends=True) if "drive_00104" not in row))
    with pytest.raises(
        ConfigError, match=r"index.csv: drive_00106 follows drive_00102 after 4 frames .* others after 2"
    ):
        open_camvid(root, "val", keyframe_interval=2)
    assert open_camvid(root, "val", keyframe_interval=1).num_scored == 3
