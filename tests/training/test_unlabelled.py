import numpy as np
import pytest
import torch
from PIL import Image

from gsvnet.errors import ConfigError, VideoError
from gsvnet.models.segmenter import SizeRule
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.training.unlabelled import read_unlabelled

RULE = SizeRule(rows=32, keyframe_scale=1.5)  # labelled stills have the working size too


def test_every_nth_frame_of_a_video_is_taken_at_the_students_size(tmp_path):
    video = str(write_video(tmp_path / "v.mp4", config=SceneConfig(height=64, width=96, seed=3), num_frames=9))
    ((name, stills),) = read_unlabelled([video], RULE, step=4)
    ((_, every),) = read_unlabelled([video], RULE, step=1)
    assert name == video
    assert stills.images.shape == (3, 3, 32, 48)
    assert torch.equal(stills.images, every.images[::4])
    assert (stills.labels == 255).all()


def test_a_folder_of_images_is_one_set(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((64, 80, 3), i * 9, np.uint8)).save(tmp_path / f"{i}.png")
    ((_, stills),) = read_unlabelled([str(tmp_path)], RULE, step=5)
    assert stills.images.shape == (3, 3, 32, 40)
    assert stills.images[:, 0, 0, 0].tolist() == [0, 9, 18]


def test_images_of_two_shapes_in_one_folder_are_refused_by_name(tmp_path):
    Image.new("RGB", (80, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    with pytest.raises(ConfigError, match=r"b\.png: \(64, 64\) pixels do not fit a\.png"):
        list(read_unlabelled([str(tmp_path)], RULE, step=1))


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"broken\.jpg"):
        list(read_unlabelled([str(tmp_path)], RULE, step=1))
    with pytest.raises(VideoError, match=r"absent\.mp4"):
        list(read_unlabelled([str(tmp_path / "absent.mp4")], RULE, step=1))
