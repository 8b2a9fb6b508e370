import numpy as np
import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import VideoError
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import SizeRule
from gsvnet.nn.upsample import upsample_labels
from gsvnet.synthetic import SceneConfig, SceneFrame, write_video
from gsvnet.training.clips import VideoClips
from gsvnet.training.sources import (
    draw_street_stills,
    flow_of_street,
    make_still_clips,
    make_street_clips,
    make_video_clips,
    mix_by_grid,
)
from gsvnet.training.stills import Stills


@pytest.fixture
def model(tiny_network, normalise) -> GSVNet:
    """Reads 32 rows; logits at 1/2 of that, grid at 1/4."""
    return GSVNet(
        tiny_network(11),
        Propagation(num_classes=11),
        classes=CAMVID,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(rows=32, strides=(4,)),
        align_corners=False,
    ).eval()


@pytest.fixture
def video(tmp_path) -> str:
    return str(write_video(tmp_path / "v.mp4", config=SceneConfig(height=64, width=96, seed=3), num_frames=9))


def test_a_real_video_is_seen_at_the_sizes_of_labeling_with_its_own_labels_as_targets(model, video):
    clips = make_video_clips(video, model, max_frames=100)
    assert clips.frames.shape == (9, 3, 8, 12)
    assert clips.frames.dtype == torch.uint8
    assert clips.logits.shape == (9, 11, 8, 12)
    assert clips.targets.shape == (9, 32, 48)
    assert clips.grid == (8, 12)
    coarse = upsample_labels(clips.logits, (32, 48), align_corners=False)
    assert (coarse == clips.targets).float().mean() > 0.8  # targets keep the keyframe network's finer grid


def test_only_the_first_frames_of_a_long_video_are_read(model, video):
    few, all_frames = (make_video_clips(video, model, max_frames=n) for n in (4, 9))
    assert torch.equal(few.frames, all_frames.frames[:4])
    assert torch.equal(few.targets, all_frames.targets[:4])


def test_a_video_of_one_frame_is_refused(model, tmp_path):
    path = write_video(tmp_path / "one.mp4", config=SceneConfig(height=32, width=32), num_frames=1)
    with pytest.raises(VideoError, match=r"one\.mp4.*less than two frames"):
        make_video_clips(str(path), model, max_frames=10)


def test_drawn_clips_have_true_labels_and_follow_from_their_seed(model):
    (clips,) = make_street_clips(1, 3, (64, 96), model, seed=0)
    (again,) = make_street_clips(1, 3, (64, 96), model, seed=0)
    (other,) = make_street_clips(1, 3, (64, 96), model, seed=1)
    assert clips.frames.shape == (3, 3, 8, 12)
    assert clips.targets.shape == (3, 64, 96)
    assert clips.targets.max() < len(CAMVID)
    assert torch.equal(clips.frames, again.frames)
    assert not torch.equal(clips.frames, other.frames)


def test_drawn_stills_are_of_different_streets():
    stills = draw_street_stills(2, (32, 48), seed=0)
    assert stills.images.shape == (2, 3, 32, 48)
    assert (stills.labels[0] != stills.labels[1]).float().mean() > 0.05


def test_stills_of_another_size_are_brought_to_the_network_size(model):
    stills = Stills(
        images=torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8),
        labels=torch.zeros(3, 64, 96, dtype=torch.uint8),
    )
    clips = make_still_clips(stills, model)
    assert clips.grid == (8, 12)
    assert clips.logits.shape == (3, 11, 8, 12)
    assert clips.draw(3, np.random.default_rng(0)).frames.shape == (3, 3, 8, 12)


def test_sources_of_one_grid_share_their_batches():
    def clips(h: int, w: int, value: int) -> VideoClips:
        frames = torch.full((4, 3, h, w), value, dtype=torch.uint8)
        return VideoClips(frames, torch.zeros(4, 2, h, w), torch.full((4, h, w), value, dtype=torch.uint8))

    mixed = mix_by_grid([(clips(4, 6, 1), 3.0), (clips(4, 8, 2), 1.0), (clips(4, 6, 3), 1.0)])
    assert [share for _, share in mixed] == [4.0, 1.0]
    generator = np.random.default_rng(0)
    drawn = [int(mixed[0][0].draw(2, generator).targets[0, 0, 0]) for _ in range(300)]
    assert set(drawn) == {1, 3}
    assert np.mean([d == 1 for d in drawn]) == pytest.approx(0.75, abs=0.08)


def test_the_flow_of_a_drawn_street_comes_to_the_grid_in_its_pixels(model):
    (clips,) = make_street_clips(1, 3, (64, 96), model, seed=0)
    assert clips.flow is not None
    assert clips.flow.shape == (3, 2, 8, 12)
    frame = SceneFrame(
        image=np.zeros((64, 96, 3), np.uint8),
        labels=np.zeros((64, 96), np.uint8),
        flow=np.stack([np.full((64, 96), 8.0, np.float32), np.full((64, 96), -16.0, np.float32)]),
        flow_valid=np.arange(64 * 96).reshape(64, 96) % 96 >= 12,
        moving=np.zeros((64, 96), bool),
    )
    flow = flow_of_street(frame, (8, 12))
    assert flow[:, :, 0].isnan().all()  # its first columns were not visible
    assert flow[:, 0, 5].tolist() == [1.0, -2.0]
