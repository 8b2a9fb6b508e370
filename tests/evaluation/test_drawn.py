from __future__ import annotations

import numpy as np
import pytest

from gsvnet.errors import ConfigError
from gsvnet.evaluation.drawn import open_drawn
from gsvnet.evaluation.drawn_config import DrawnOptions
from gsvnet.synthetic import SceneConfig, StreetScene

_TINY = DrawnOptions(scenes=2, frames=3, size="48x64")


def test_a_drawn_clip_is_the_scene_and_its_labels(tmp_path):
    data = open_drawn(_TINY, tmp_path, keyframe_interval=2)
    assert [clip.scored for clip in data.clips] == [(1, 2), (1, 2)]
    scene = StreetScene(SceneConfig(height=48, width=64, seed=400_001, speed_m_s=14.0))
    frame = data.clips[1].frames[2]
    np.testing.assert_array_equal(frame.read_image(), scene.image(2))
    np.testing.assert_array_equal(frame.read_truth((48, 64)), scene.labels(2))


def test_at_speed_0_next_to_nothing_moves(tmp_path):
    standing, fast = open_drawn(_TINY, tmp_path, keyframe_interval=1).clips
    changed = [
        (clip.frames[0].read_truth((48, 64)) != clip.frames[2].read_truth((48, 64))).mean() for clip in (standing, fast)
    ]
    assert changed[0] < 0.02 < 0.1 < changed[1]


def test_images_that_are_there_are_used(tmp_path):
    first = open_drawn(_TINY, tmp_path, keyframe_interval=1).clips[0].frames[1]
    first.image.write_bytes(first.labels.read_bytes())
    again = open_drawn(_TINY, tmp_path, keyframe_interval=1).clips[0].frames[1]
    assert again.image.read_bytes() == first.labels.read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="4 is more than the clips' 3 frames"):
        open_drawn(_TINY, tmp_path, keyframe_interval=4)
    with pytest.raises(ConfigError, match="--speeds -1"):
        DrawnOptions(speeds=(-1,))
    with pytest.raises(ConfigError, match="--size 48"):
        DrawnOptions(size="48")
