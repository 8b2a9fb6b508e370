from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsvnet.classes import CITYSCAPES, IGNORE
from gsvnet.errors import ConfigError
from gsvnet.evaluation.cityscapes import LABEL_IDS, open_cityscapes
from gsvnet.evaluation.config import EvaluateCityscapesConfig, RunOptions

DRIVE = "frankfurt_000001"


def _write_image(folder: Path, number: int, *, drive: str = DRIVE, suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{drive}_{number:06d}_leftImg8bit.{suffix}"
    Image.new("RGB", (8, 6), (number % 256, 0, 0)).save(path)
    return path


def _write_labels(folder: Path, number: int, ids: np.ndarray, *, drive: str = DRIVE, kind: str = "TrainIds") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{drive}_{number:06d}_gtFine_label{kind}.png"
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """A snippet 10..15 with frame 14 labelled, in the official folders."""
    for number in range(10, 16):
        _write_image(tmp_path / "leftImg8bit_sequence" / "val" / "frankfurt", number)
    _write_labels(tmp_path / "gtFine" / "val" / "frankfurt", 14, np.arange(48).reshape(6, 8) % 19)
    return tmp_path


def test_the_labelled_frame_of_a_snippet_is_scored(root):
    data = open_cityscapes(root, "val", keyframe_interval=5)
    assert [(clip.name, clip.scored, len(clip.frames)) for clip in data.clips] == [(f"{DRIVE}_000010", (4,), 6)]
    assert (data.dataset, data.split, data.classes) == ("cityscapes", "val", CITYSCAPES)
    assert data.step_ms == pytest.approx(58.82, abs=0.01)
    frame = data.clips[0].frames[4]
    assert int(frame.read_image()[0, 0, 0]) == 14
    np.testing.assert_array_equal(frame.read_truth((6, 8)), np.arange(48).reshape(6, 8) % 19)


def test_real_frames_are_found_without_the_official_folders(data_dir):
    data = open_cityscapes(data_dir / "cityscapes", "val", keyframe_interval=5)
    [clip] = data.clips
    assert (len(clip.frames), clip.scored) == (15, (4,))
    assert clip.frames[4].image.name == "frankfurt_000001_047552_leftImg8bit.jpg"
    truth = clip.frames[4].read_truth((1024, 2048))
    assert set(np.unique(truth)) <= {*range(19), IGNORE}
    assert open_cityscapes(data_dir / "cityscapes", "train", keyframe_interval=1).num_scored == 8


def test_real_frames_before_the_clip_are_missed(data_dir):
    with pytest.raises(ConfigError, match=r"no frankfurt_000001_047547_leftImg8bit.*needs 6 frames"):
        open_cityscapes(data_dir / "cityscapes", "val", keyframe_interval=6)


def test_label_ids_become_train_ids(root):
    folder = root / "gtFine" / "val" / "frankfurt"
    next(folder.iterdir()).unlink()
    _write_labels(folder, 14, np.arange(48).reshape(6, 8) % 34, kind="Ids")
    truth = open_cityscapes(root, "val", keyframe_interval=1).clips[0].frames[4].read_truth((6, 8)).flatten()
    assert [CITYSCAPES.names[truth[i]] for i in (7, 8, 11, 21, 24, 26, 33)] == [
        "road", "sidewalk", "building", "vegetation", "person", "car", "bicycle",
    ]  # fmt: skip
    assert all(truth[i] == IGNORE for i in (0, 1, 6, 9, 10, 14, 29, 30))
    assert sorted(i for i in LABEL_IDS.classes.values() if i != IGNORE) == list(range(19))


def test_train_ids_are_preferred_where_both_are_there(root):
    _write_labels(root / "gtFine" / "val" / "frankfurt", 14, np.full((6, 8), 7), kind="Ids")
    frame = open_cityscapes(root, "val", keyframe_interval=1).clips[0].frames[4]
    assert frame.labels is not None
    assert frame.labels.name.endswith("labelTrainIds.png")


def test_an_image_that_is_there_twice_comes_from_the_snippet(root):
    _write_image(root / "leftImg8bit" / "val" / "frankfurt", 14)
    [clip] = open_cityscapes(root, "val", keyframe_interval=5).clips
    assert "leftImg8bit_sequence" in clip.frames[4].image.parts


def test_each_snippet_is_a_clip(root):
    folder = root / "leftImg8bit_sequence" / "val" / "lindau"
    for number in (3, 4, 20, 21, 30):
        _write_image(folder, number, drive="lindau_000000", suffix="jpg")
    for number in (4, 21):
        _write_labels(root / "gtFine" / "val" / "lindau", number, np.zeros((6, 8)), drive="lindau_000000")
    clips = open_cityscapes(root, "val", keyframe_interval=2).clips
    assert [(clip.name, clip.scored) for clip in clips[1:]] == [
        ("lindau_000000_000003", (1,)),
        ("lindau_000000_000020", (1,)),
    ]


def test_a_missing_frame_is_named(root):
    (root / "leftImg8bit_sequence" / "val" / "frankfurt" / f"{DRIVE}_000012_leftImg8bit.png").unlink()
    assert open_cityscapes(root, "val", keyframe_interval=2).num_scored == 1
    with pytest.raises(ConfigError, match=rf"no {DRIVE}_000012_leftImg8bit.* keyframe interval 3 .*{DRIVE}_000014_gtF"):
        open_cityscapes(root, "val", keyframe_interval=3)


def test_labels_without_their_image_are_named(root):
    _write_labels(root / "gtFine" / "val" / "frankfurt", 99, np.zeros((6, 8)))
    with pytest.raises(ConfigError, match=rf"no {DRIVE}_000099_leftImg8bit"):
        open_cityscapes(root, "val", keyframe_interval=1)


def test_wrong_ids_name_file_and_value(root):
    path = _write_labels(root / "gtFine" / "val" / "frankfurt", 14, np.full((6, 8), 19))
    with pytest.raises(ConfigError, match=rf"{path.name}: class id 19; allowed: 0..18 and 255"):
        open_cityscapes(root, "val", keyframe_interval=1).clips[0].frames[4].read_truth((6, 8))


def test_a_split_without_files_is_refused(root, tmp_path):
    with pytest.raises(ConfigError, match="in a folder train"):
        open_cityscapes(root, "train", keyframe_interval=1)
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        open_cityscapes(tmp_path / "nowhere", "val", keyframe_interval=1)


def test_an_interval_below_one_is_refused(root):
    with pytest.raises(ConfigError, match="keyframe interval 0: at least 1"):
        open_cityscapes(root, "val", keyframe_interval=0)


def test_motion_of_a_codec_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(ConfigError, match="--propagation motion needs the video's codec"):
        EvaluateCityscapesConfig(root=tmp_path, run=RunOptions(propagation="motion"))
