"""The clip: frames to and fro, its truth beside it, complete or absent."""

from __future__ import annotations

import numpy as np
import pytest

from gsvnet.benchmark import footage
from gsvnet.benchmark.footage import ClipConfig, describe_clip, prepare_clip, read_truth, truth_table
from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.synthetic import SceneConfig
from gsvnet.synthetic.scene import StreetScene

TINY = ClipConfig(height=64, width=128, frames=7, drawn=3, gop=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return prepare_clip(TINY, tmp_path_factory.mktemp("clip"))


def test_drawn_frames_are_shown_to_and_fro():
    assert [TINY.drawn_index(i) for i in range(7)] == [0, 1, 2, 1, 0, 1, 2]


def test_the_clip_is_what_was_asked_for(clip):
    facts = describe_clip(clip)
    assert {key: facts[key] for key in ("height", "width", "frames", "fps", "codec", "i_frames", "drawn")} == {
        "height": 64, "width": 128, "frames": 7, "fps": 30, "codec": "h264", "i_frames": 2, "drawn": True,
    }  # fmt: skip


def test_truth_is_that_of_the_frame_shown(clip):
    scene = StreetScene(SceneConfig(height=64, width=128, fps=30, seed=TINY.seed))
    truth = read_truth(clip, CITYSCAPES, [2, 3])
    expected = truth_table(CITYSCAPES)[np.stack([scene.labels(2), scene.labels(1)])]
    assert np.array_equal(truth, expected)


def test_truth_of_a_class_without_counterpart_is_ignored():
    table = truth_table(CITYSCAPES)
    assert CITYSCAPES.names[table[CAMVID.names.index("tree")]] == "vegetation"
    assert (table[len(CAMVID) :] == 255).all()


def test_a_clip_that_is_there_is_not_drawn_again(clip, monkeypatch):
    monkeypatch.setattr(footage, "draw_frames", None)
    assert prepare_clip(TINY, clip.parent) == clip


def test_an_interrupted_clip_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(footage, "_encode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_clip(TINY, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_the_users_own_has_no_truth(drive):
    assert read_truth(drive, CITYSCAPES, [0]) is None
