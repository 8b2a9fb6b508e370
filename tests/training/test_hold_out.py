import numpy as np
import pytest
import torch
from torch import nn

from gsvnet.errors import ConfigError
from gsvnet.models.propagation import Propagation
from gsvnet.training.clips import Clip, VideoClips
from gsvnet.training.hold_out import describe_leak, score_clips, score_stills, split_stills, split_video
from gsvnet.training.stills import Stills


def drives(*lengths: int) -> Stills:
    """Stills whose pixels are their number; drive "a", "b", ... of these lengths, one after the other."""
    number = torch.arange(sum(lengths), dtype=torch.uint8)
    names = tuple(name for name, length in zip("abc", lengths) for _ in range(length))
    images = number.view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return Stills(images=images, labels=torch.zeros_like(images[:, 0]), sequences=names)


def test_the_end_of_every_drive_is_held_out():
    kept, held = split_stills(drives(10, 4), 0.25)
    assert kept.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12]
    assert held.images[:, 0, 0, 0].tolist() == [8, 9, 13]
    assert held.sequences == ("a", "a", "b")


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(ConfigError, match=f"hold-out {share} of 4 stills"):
        split_stills(drives(4), share)


def test_the_end_of_a_video_is_held_out():
    number = torch.arange(10).view(10, 1, 1, 1)
    video = VideoClips(number.expand(10, 3, 2, 2).byte(), number.expand(10, 2, 2, 2).half(), number[:, 0].byte())
    start, end = split_video(video, 0.3)
    assert start.frames[:, 0, 0, 0].tolist() == [*range(7)]
    assert end.frames[:, 0, 0, 0].tolist() == [7, 8, 9]
    assert end.logits[:, 0, 0, 0].tolist() == end.targets[:, 0, 0].tolist() == [7, 8, 9]


def test_stills_are_scored_over_the_whole_set_without_ignored_pixels(tiny_stills, normalise):
    class Expert(nn.Module):
        def forward(self, pixels):
            return nn.functional.avg_pool2d(pixels, 2)

    expert = Expert().train()
    assert score_stills(expert, tiny_stills, num_classes=3, normalise=normalise) > 0.8  # but for upsampled borders
    assert expert.training
    wrong = Stills(images=tiny_stills.images.roll(1, dims=1), labels=tiny_stills.labels)
    assert score_stills(expert, wrong, num_classes=3, normalise=normalise) < 0.2


def test_clips_are_scored_on_propagated_frames_alone(normalise):
    class Hold(Propagation):
        def step(self, state, flow, intra):
            return state

    logits = torch.zeros(2, 4, 8)
    logits[1, :, 4:] = 2.0
    logits[0, :, :4] = 2.0
    truth = (torch.arange(16) >= 8).byte().expand(3, 8, 16).clone()
    clip = Clip(keyframe_logits=logits, frames=torch.zeros(3, 3, 4, 8), targets=truth)
    options = {"normalise": normalise, "align_corners": False}
    hold = Hold(num_classes=2).train()
    assert score_clips(hold, [clip], **options) == 1.0
    truth[0] = 1 - truth[0]  # the keyframe, which is not propagated
    assert score_clips(hold, [clip], **options) == 1.0
    truth[2] = 1 - truth[2]
    assert score_clips(hold, [clip], **options) == pytest.approx(1 / 3)
    assert hold.training
    assert np.isfinite(score_clips(Propagation(num_classes=2), [clip], **options))


def test_stills_are_scored_at_the_size_that_labeling_reads(tiny_network, tiny_stills, normalise):
    sizes: list[tuple[int, ...]] = []
    network = tiny_network(3)
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    score_stills(network, tiny_stills, num_classes=3, normalise=normalise, scale=1.5)
    height, width = tiny_stills.labels.shape[-2:]
    assert set(sizes) == {(round(1.5 * height), round(1.5 * width))}


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ({"recipe": {"camvid": "camvid", "hold_out": 0.0}}, "was trained with --hold-out 0, on what is held out"),
        ({"recipe": {"camvid": "camvid", "hold_out": 0.1}}, "was trained with --hold-out 0.1, on what is held out"),
        ({"recipe": {"camvid": "camvid", "hold_out": 0.15}}, None),
        ({"recipe": {"camvid": None, "hold_out": 0.0}}, None),
        ({}, "does not say what it was trained on"),
        ({"recipe": {"hold_out": 0.0}, "keyframe": {"notes": {"recipe": {"camvid": "c", "hold_out": 0.2}}}}, None),
    ],
)
def test_a_keyframe_network_that_saw_what_is_held_out_is_told_of(notes, said):
    found = describe_leak(notes, 0.15)
    assert found is None if said is None else said in found
