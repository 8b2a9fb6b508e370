from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.nn.warp import warp
from gsvnet.training import clips as clips_module
from gsvnet.training.clips import (
    StillClips,
    VideoClips,
    _move_logits,
    compute_logits,
    flow_to_grid,
    mirror,
    moving_positions,
    to_grid,
)
from gsvnet.training.stills import Stills


def generators(count: int):
    return (np.random.default_rng(seed) for seed in range(count))


@pytest.fixture
def plain_colours(monkeypatch):
    monkeypatch.setattr(clips_module, "jitter_colours", lambda view, generator: view)


@pytest.fixture
def still_clips() -> StillClips:
    """Stills of 48 x 64 whose colour is twice the label plus 10; 24 x 32 grid; logits that hold the column."""
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 1, 3, 4) * 100, (48, 64), mode="bicubic")
    labels = smooth[:, 0].clamp(0, 100).to(torch.uint8)
    images = (labels * 2 + 10)[:, None].expand(-1, 3, -1, -1).contiguous()
    logits = torch.arange(32.0).expand(2, 3, 24, 32).half()
    return StillClips(Stills(images=images, labels=labels), logits, grid=(24, 32))


@pytest.mark.parametrize("seed", range(4))
def test_targets_move_exactly_like_the_image(plain_colours, still_clips, seed):
    clip = still_clips.draw(5, np.random.default_rng(seed))
    seen = clip.targets != IGNORE
    targets = torch.where(seen, clip.targets, 0).float()
    expected = torch.nn.functional.avg_pool2d(targets, 2) * 2 + 10
    inside = torch.nn.functional.avg_pool2d(seen.float(), 2) == 1
    apart = (clip.frames[:, 0] - expected)[inside]
    assert apart.abs().mean() < 2.5  # the nearest label against the colour between pixels
    assert abs(float(apart.mean())) < 1
    assert inside.float().mean() > 0.5


def test_the_first_frame_is_the_still_itself(plain_colours, still_clips):
    for generator in generators(4):
        clip = still_clips.draw(3, generator)
        clip = mirror(clip) if clip.keyframe_logits[0, 0, 0] > 0 else clip
        which = [torch.equal(clip.targets[0], labels) for labels in still_clips.stills.labels]
        assert which.count(True) == 1
        still = still_clips.stills.images[which.index(True)]
        apart = (clip.frames[0] - to_grid(still, (24, 32))).abs()
        assert apart.max() <= 1  # sampling at a pixel's centre is exact but for the rounding of a half
        assert apart.mean() < 0.1


def test_the_motion_is_steady_and_a_flow_from_each_frame_to_the_one_before():
    y, x = torch.meshgrid(torch.linspace(0, 6, 60), torch.linspace(0, 8, 80), indexing="ij")
    still = (torch.sin(x) * torch.cos(y))[None, None]
    for generator in generators(4):
        positions = moving_positions(4, (60, 80), generator)
        frames = torch.nn.functional.grid_sample(still.expand(4, 1, 60, 80), positions, align_corners=False)
        flow = ((positions[1] - positions[0]) * torch.tensor([40.0, 30.0])).permute(2, 0, 1)[None]
        for t in range(1, 4):
            followed = (warp(frames[t - 1 : t], flow) - frames[t])[..., 15:-15, 15:-15].abs().mean()
            backward = (warp(frames[t - 1 : t], -flow) - frames[t])[..., 15:-15, 15:-15].abs().mean()
            assert followed < 0.3 * backward


def test_what_comes_from_outside_the_still_is_ignored():
    stills = Stills(
        images=torch.zeros(1, 3, 24, 32, dtype=torch.uint8), labels=torch.zeros(1, 24, 32, dtype=torch.uint8)
    )
    clips = StillClips(stills, torch.zeros(1, 3, 12, 16), grid=(12, 16))
    targets = torch.stack([clips.draw(6, generator).targets[-1] for generator in generators(10)])
    assert set(targets.unique().tolist()) == {0, IGNORE}


def test_the_grid_gets_the_mean_of_its_pixels_in_whole_numbers():
    images = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8)
    assert torch.equal(to_grid(images, (2, 3)), torch.nn.functional.avg_pool2d(images.float(), 4).round())
    assert torch.equal(to_grid(images, (8, 12)), images.float())


@pytest.fixture
def video() -> VideoClips:
    """Ten frames whose pixels, logits and targets are their number."""
    number = torch.arange(10.0).view(10, 1, 1, 1)
    return VideoClips(
        number.to(torch.uint8).expand(10, 3, 4, 6),
        number.half().expand(10, 2, 4, 6),
        number[:, 0].to(torch.uint8).expand(10, 8, 12),
    )


def test_a_video_clip_starts_at_its_keyframe_and_goes_on_in_equal_steps(plain_colours, video):
    steps = set()
    for generator in generators(40):
        clip = video.draw(4, generator)
        numbers = clip.frames[:, 0, 0, 0].tolist()
        assert clip.keyframe_logits[0, 0, 0] == numbers[0]
        assert clip.targets[:, 0, 0].tolist() == numbers
        (step,) = set(np.diff(numbers))
        steps.add(step)
    assert steps == {-3, -2, -1, 1, 2, 3}


def test_a_video_that_is_shorter_than_the_clip_is_refused(video):
    assert video.draw(10, np.random.default_rng(0)).frames.shape[0] == 10
    with pytest.raises(ConfigError, match="11 frames cannot be cut from a video of 10"):
        video.draw(11, np.random.default_rng(0))


def test_all_frames_of_a_clip_get_one_change_of_colour():
    frame = torch.full((1, 3, 4, 6), 100, dtype=torch.uint8)
    video = VideoClips(frame.expand(5, 3, 4, 6), torch.zeros(5, 2, 4, 6), torch.zeros(5, 4, 6, dtype=torch.uint8))
    clip = video.draw(5, np.random.default_rng(0))
    assert (clip.frames == clip.frames[:1]).all()
    assert not torch.equal(clip.frames[0], frame[0].float())


def test_logits_do_not_depend_on_how_images_are_batched_and_need_no_gradient(tiny_network, normalise):
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    network = tiny_network(3).eval()
    logits = compute_logits(network, normalise, images, batch_size=2)
    assert logits.dtype == torch.float16
    assert not logits.requires_grad
    torch.testing.assert_close(logits, compute_logits(network, normalise, images))
    (torch.nn.Parameter(torch.ones(())) * logits.float()).sum().backward()  # may take part in a graph


def test_the_teacher_of_a_corner_aligned_network_is_its_keyframe_moved_in_its_own_convention():
    y, x = torch.meshgrid(torch.linspace(0, 3, 48), torch.linspace(0, 4, 64), indexing="ij")
    smooth = torch.stack([torch.sin(x + y), torch.cos(x - y), torch.sin(2 * x)])[None] * 100
    logits = torch.nn.functional.interpolate(smooth, (12, 16), mode="bilinear", align_corners=True)
    apart = {False: [], True: []}
    for generator in generators(4):
        positions = moving_positions(4, (48, 64), generator)
        moved = torch.nn.functional.grid_sample(smooth.expand(4, -1, -1, -1), positions, align_corners=False)
        wanted = torch.nn.functional.interpolate(moved, (12, 16), mode="bilinear", align_corners=True)
        for align_corners, errors in apart.items():
            teacher = _move_logits(logits[0], positions, align_corners=align_corners).float()
            errors.append((teacher - wanted)[..., 2:-2, 2:-2].abs().nanmean())
    assert max(apart[True]) < 1.5
    assert sum(apart[True]) < sum(apart[False])


def test_the_teacher_of_a_still_clip_is_the_keyframe_moved_like_its_frames(plain_colours):
    y, x = torch.meshgrid(torch.linspace(0, 3, 48), torch.linspace(0, 4, 64), indexing="ij")
    smooth = torch.stack([torch.sin(x + y), torch.cos(x - y), torch.sin(2 * x)]) * 100 + 120
    images = smooth.round().to(torch.uint8)[None]
    logits = torch.nn.functional.avg_pool2d(images.float(), 2).half()
    labels = torch.zeros(1, 48, 64, dtype=torch.uint8)
    clips = StillClips(Stills(images=images, labels=labels), logits, grid=(24, 32))
    for generator in generators(4):
        clip = clips.draw(4, generator)
        known = clip.teacher.isfinite().all(dim=1, keepdim=True).expand_as(clip.teacher)
        assert torch.equal(clip.teacher[0], clip.keyframe_logits.half())
        assert (clip.teacher.float() - clip.frames)[known].abs().mean() < 1.5
        outside = torch.nn.functional.max_pool2d((clip.targets == IGNORE).float(), 2) == 1
        agree = known[:, 0] == ~outside
        assert agree.float().mean() > 0.95  # all but a line along the border


def test_the_teacher_of_a_video_clip_is_the_network_itself_on_each_frame(plain_colours, video):
    clip = video.draw(4, np.random.default_rng(1))
    assert clip.teacher.dtype == torch.float16
    assert clip.teacher[:, 0, 0, 0].tolist() == clip.targets[:, 0, 0].tolist()


def test_a_mirrored_clip_has_a_mirrored_teacher(video):
    clip = video.draw(3, np.random.default_rng(1))
    marked = replace(clip, teacher=torch.arange(6.0).half().expand_as(clip.teacher))
    assert torch.equal(mirror(marked).teacher, marked.teacher.flip(-1))


def test_the_flow_of_a_still_clip_leads_to_the_frame_before(plain_colours):
    y, x = torch.meshgrid(torch.linspace(0, 6, 96), torch.linspace(0, 8, 128), indexing="ij")
    smooth = torch.stack([torch.sin(x + y), torch.cos(x - y), torch.sin(2 * x)]) * 100 + 120
    stills = Stills(images=smooth.round().to(torch.uint8)[None], labels=torch.zeros(1, 96, 128, dtype=torch.uint8))
    clips = StillClips(stills, torch.zeros(1, 3, 48, 64).half(), grid=(48, 64))
    for generator in generators(6):
        clip = clips.draw(6, generator)
        assert clip.flow is not None
        for t in (1, 5):
            known = clip.flow[t - 1].isfinite().all(dim=0)
            followed = warp(clip.frames[t - 1 : t], clip.flow[t - 1 : t].nan_to_num())[0]
            apart, still = ((f - clip.frames[t]).abs().mean(dim=0)[known] for f in (followed, clip.frames[t - 1]))
            assert apart[apart.argsort()[: int(0.95 * len(apart))]].mean() < 1.0 < still.mean()
            assert known.float().mean() > 0.7


def test_a_video_clip_carries_flow_only_when_it_runs_forward_frame_by_frame(plain_colours, video):
    number = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 2, 4, 6)
    clips = VideoClips(video.frames, video.logits, video.targets, flow=number)
    seen = set()
    for generator in generators(40):
        clip = clips.draw(3, generator)
        numbers = clip.frames[:, 0, 0, 0]
        forward = bool((numbers.diff() == 1).all())
        seen.add(forward)
        assert (clip.flow is not None) == forward
        if clip.flow is not None:
            assert torch.equal(clip.flow[:, 1, 0, 0], numbers[1:])
            assert torch.equal(clip.flow[:, 0, 0, 0].abs(), numbers[1:])  # a mirror turns dx around
    assert seen == {True, False}


def test_flow_on_a_coarser_grid_is_in_that_grids_pixels():
    flow = torch.tensor([4.0, 3.0]).view(1, 2, 1, 1).repeat(1, 1, 6, 8)
    flow[..., :3, :4] = float("nan")  # the first cell: 12 of 12
    flow[..., 3:, 4:] += torch.tensor([8.0, 0.0]).view(2, 1, 1)
    flow[0, 0, 3:5, :4] = float("nan")  # 8 of 12
    flow[0, 1, :1, 4:] = float("nan")  # 4 of 12
    coarse = flow_to_grid(flow, (2, 2))
    nan = float("nan")
    torch.testing.assert_close(
        coarse, torch.tensor([[[[nan, 1.0], [nan, 3.0]], [[nan, 1.0], [nan, 1.0]]]]), equal_nan=True
    )
