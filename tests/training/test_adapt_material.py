import numpy as np
import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import SizeRule
from gsvnet.nn.upsample import upsample_labels
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.adapt_material import STILL_EVERY, cut_videos, label_clips
from gsvnet.training.clips import StillClips, VideoClips


@pytest.fixture
def clips(tiny_network, normalise, tmp_path):
    """Of 19 training frames of a drawn street: the clips, and the model whose labels are learned."""
    model = GSVNet(
        tiny_network(11),
        Propagation(num_classes=11),
        classes=CAMVID,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(rows=32, strides=(4,)),
        align_corners=False,
    ).eval()
    path = write_video(tmp_path / "v.mp4", config=SceneConfig(height=64, width=96, seed=3), num_frames=24)
    config = AdaptConfig(videos=(str(path),), keyframe_model="m:f", out=tmp_path / "w.safetensors", interval=4)
    materials = cut_videos([str(path)], config, lambda line: None)
    with torch.inference_mode():
        return dict(map(lambda pair: (type(pair[0]), pair), label_clips(model, materials, config, "cpu", print))), model


def test_the_video_is_drawn_as_often_as_stills_from_it(clips):
    by_kind, _ = clips
    assert by_kind[VideoClips][1] == by_kind[StillClips][1] > 0


def test_stills_are_every_so_many_frames_with_the_networks_own_labels(clips):
    by_kind, model = clips
    video, stills = by_kind[VideoClips][0], by_kind[StillClips][0]
    assert len(video.frames) == 19
    assert len(stills.stills) == len(range(0, 19, STILL_EVERY))
    assert torch.equal(stills.logits, video.logits[::STILL_EVERY])
    images = stills.stills.images
    assert images.shape[-2:] == (32, 48)
    with torch.inference_mode():
        logits = model.keyframe_network(model.keyframe_normalise(images)).float()
    assert torch.equal(stills.stills.labels, upsample_labels(logits, (32, 48), align_corners=False))


def test_stills_in_motion_know_their_flow_and_the_video_does_not(clips):
    by_kind, _ = clips
    generator = np.random.default_rng(0)
    assert by_kind[VideoClips][0].draw(3, generator).flow is None
    still = by_kind[StillClips][0].draw(3, generator)
    assert still.flow is not None
    assert still.flow.isfinite().float().mean() > 0.5
