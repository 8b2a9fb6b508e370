from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, VideoError
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import SizeRule
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.pair_flow import DisFlow, LightFlow, ProxyFlow, make_flow
from gsvnet.training.pair_sources import draw_street_pairs, gather_pairs, pair_frames, read_frames_of
from gsvnet.training.pairs import FramePairs, MovingStills, Pair, cut_flow, cut_pair, draw_pairs, flow_grid
from gsvnet.training.stills import Stills, Window
from gsvnet.training.temporal_losses import ends_inside

SIZE = (64, 96)


def smooth_picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(3, height, width) uint8 of blobs that flow can follow."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)[0].to(torch.uint8)


def pan(num_frames: int, step: int = 4) -> torch.Tensor:
    """(T, 3, 64, 96): each frame looks `step` pixels further right than the one before."""
    wide = smooth_picture(SIZE[0], SIZE[1] + step * num_frames)
    return torch.stack([wide[:, :, step * i : step * i + SIZE[1]] for i in range(num_frames)])


def error_of(images: torch.Tensor, flow: torch.Tensor) -> float:
    """Mean grey levels between the first of two images and what a flow, at their size, fetches of the second."""
    h, w = images.shape[-2:]
    longer = torch.tensor([w / flow.shape[-1], h / flow.shape[-2]]).view(2, 1, 1)
    flow = F.interpolate(flow[None], (h, w), mode="bilinear")[0] * longer
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    ends = torch.stack([(2 * (x + flow[0]) + 1) / w - 1, (2 * (y + flow[1]) + 1) / h - 1], dim=-1)
    fetched = F.grid_sample(images[1:], ends.nan_to_num()[None], align_corners=False)[0]
    return float((images[0] - fetched).abs().mean(dim=0)[ends_inside(flow[None])[0]].mean())


def test_a_window_sees_the_flow_in_its_own_pixels():
    flow = torch.stack([torch.full((16, 24), 2.0), torch.full((16, 24), -1.0)])  # 8 and -4 pixels of an image of 64x96
    cut = cut_flow(flow, SIZE, Window(top=8, left=16, height=32, width=48), (16, 24))  # twice as near
    assert torch.equal(cut, flow * 2)


def test_a_window_sees_the_flow_of_its_own_place():
    flow = torch.stack([torch.arange(24.0).expand(16, 24), torch.arange(16.0)[:, None].expand(16, 24)])
    cut = cut_flow(flow, SIZE, Window(top=8, left=16, height=32, width=48), (8, 12))
    assert torch.allclose(cut, flow[:, 2:10, 4:16])


def test_what_is_not_known_stays_unknown_in_a_window():
    flow = torch.zeros(2, 16, 24)
    flow[0, :, 12:] = float("nan")
    cut = cut_flow(flow, SIZE, Window(top=0, left=0, height=64, width=96), (32, 48))
    assert cut[:, :, :23].isfinite().all()
    assert cut[:, :, 24:].isnan().all()


@pytest.mark.parametrize("seed", range(6))
def test_views_of_a_pair_are_apart_by_their_flow(seed):
    images = pan(2).flip(0).float()  # the frame is the later one
    pair = Pair(images=images, flow=torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, *flow_grid(SIZE)))
    view = cut_pair(pair, crop=(32, 48), scales=(0.7, 1.5), generator=np.random.default_rng(seed))
    assert error_of(view.images, view.flow) < 10  # noise and brightness are each image's own
    assert error_of(view.images, -view.flow) > 2 * error_of(view.images, view.flow)


def test_the_frames_of_a_pair_differ_by_no_more_than_a_camera_does():
    images = pan(1).float().expand(2, -1, -1, -1)
    view = cut_pair(
        Pair(images=images, flow=torch.zeros(2, 16, 24)),
        crop=SIZE,
        scales=(1.0, 1.0),
        generator=np.random.default_rng(0),
    )
    apart = (view.images[0] - view.images[1]).abs()
    assert 0 < apart.mean() < 12


@pytest.mark.parametrize("seed", range(4))
def test_stills_in_motion_are_apart_by_their_flow(seed):
    stills = Stills(images=smooth_picture(*SIZE)[None], labels=torch.zeros(1, *SIZE, dtype=torch.uint8))
    pair = MovingStills(stills).draw(np.random.default_rng(seed))
    assert pair.flow.isfinite().all(dim=0).float().mean() > 0.7
    assert error_of(pair.images, pair.flow) < 3
    assert error_of(pair.images, pair.flow) < 0.5 * error_of(pair.images, torch.zeros_like(pair.flow))


def test_what_a_still_in_motion_shows_beyond_its_border_has_no_flow():
    stills = Stills(images=smooth_picture(*SIZE)[None], labels=torch.zeros(1, *SIZE, dtype=torch.uint8))
    unknown = [MovingStills(stills).draw(np.random.default_rng(seed)).flow.isnan().any() for seed in range(4)]
    assert any(unknown)


@pytest.mark.parametrize("flow", [DisFlow(), ProxyFlow()])
@pytest.mark.parametrize("backward", [False, True])
def test_the_flow_of_a_run_leads_from_its_last_frame_to_its_first(flow, backward):
    run = pan(3)
    found = flow(run.flip(0) if backward else run)
    assert found.shape == (2, 16, 24)
    inner = found[:, 3:-3, 4:-4].flatten(1)
    inner = inner[:, inner.isfinite().all(dim=0)]
    assert inner.shape[1] > 80
    assert inner.median(dim=1).values.tolist() == pytest.approx([-2.0 if backward else 2.0, 0.0], abs=0.15)


@pytest.mark.parametrize("flow", [DisFlow(), ProxyFlow()])
def test_flow_between_other_scenes_is_not_believed(flow):
    run = torch.stack([smooth_picture(*SIZE, seed=1), smooth_picture(*SIZE, seed=2)])
    assert flow(run).isfinite().all(dim=0).float().mean() < 0.4


def test_flow_everywhere_has_no_gaps():
    assert DisFlow(everywhere=True)(pan(2)).isfinite().all()
    with pytest.raises(ConfigError, match="proxy: it is not known everywhere"):
        make_flow("proxy", everywhere=True)


@pytest.fixture
def light_model(tiny_network, normalise) -> GSVNet:
    torch.manual_seed(0)
    return GSVNet(
        tiny_network(len(CAMVID)),
        Propagation(num_classes=len(CAMVID)),
        classes=CAMVID,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(rows=64, strides=(2,)),
    )


def test_the_light_network_gives_flow_of_the_last_frame_on_its_own_grid(light_model):
    flow = LightFlow(light_model, name="m.safetensors", everywhere=True)
    run, ends = pan(3), light_model.frame_normalise
    found = flow(run)
    last, first = (F.adaptive_avg_pool2d(run[i].float(), (32, 48)).round() for i in (-1, 0))
    with torch.no_grad():
        wanted = light_model.propagation.estimate_flow(ends(last[None]), ends(first[None]))[0]
    assert found.shape == (2, 32, 48)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_light_flow_that_does_not_lead_back_is_not_known(light_model):
    for parameter in light_model.propagation.flow.parameters():
        torch.nn.init.constant_(parameter, 0.05)  # whatever it sees, everything moves the same way
    assert LightFlow(light_model, name="m")(pan(2)).isnan().all()


def test_frames_are_paired_with_neighbours_on_both_sides():
    def still(run: torch.Tensor) -> torch.Tensor:
        return torch.zeros(2, 16, 24)

    pairs = pair_frames(torch.zeros(40, 3, *SIZE, dtype=torch.uint8), still, frame_gap=2)
    assert pairs.places[:, 0].tolist() == list(range(40))
    assert set((pairs.places[:, 1] - pairs.places[:, 0]).tolist()) == {-2, -1, 1, 2}


def test_the_flow_of_a_pair_is_asked_of_the_run_from_partner_to_frame():
    runs = []

    def remember(run: torch.Tensor) -> torch.Tensor:
        runs.append(run[:, 0, 0, 0].tolist())
        return torch.zeros(2, 1, 1)

    frames = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 3, 4, 4)
    pairs = pair_frames(frames, remember, frame_gap=3)
    assert [(run[-1], run[0]) for run in runs] == [tuple(place) for place in pairs.places.tolist()]
    assert all(abs(a - b) == 1 for run in runs for a, b in pairwise(run))


@pytest.mark.slow  # drawing a street takes seconds
def test_drawn_streets_are_paired_by_their_exact_flow():
    (clip,) = draw_street_pairs(1, 3, SIZE, seed=0)
    assert clip.places.tolist() == [[1, 0], [2, 1]]
    pair = clip.draw(np.random.default_rng(0))
    assert error_of(pair.images.float(), pair.flow) < error_of(pair.images.float(), torch.zeros_like(pair.flow))


def test_a_batch_holds_frames_first_and_their_partners_after():
    frames = torch.stack([torch.full((3, *SIZE), grey, dtype=torch.uint8) for grey in (60, 200)])
    source = FramePairs(frames, torch.tensor([[0, 1]]), torch.zeros(1, 2, 16, 24).half())
    batch = draw_pairs([(source, 1.0)], 3, crop=(32, 32), scales=(1.0, 1.0), seed=(0,))
    assert batch.images.shape == (6, 3, 32, 32)
    assert batch.flow.shape == (3, 2, 8, 8)
    assert batch.images[:3].mean() < batch.images[3:].mean() - 50


def test_processes_share_the_pairs_of_a_step():
    source = MovingStills(Stills(images=smooth_picture(*SIZE)[None], labels=torch.zeros(1, *SIZE).byte()))
    whole, second = (
        draw_pairs([(source, 1.0)], 2, crop=(32, 32), scales=(1.0, 1.0), seed=(0, 7), share=share)
        for share in (slice(None), slice(1, None, 2))
    )
    assert torch.equal(second.images, whole.images[[1, 3]])
    assert torch.equal(second.flow.nan_to_num(), whole.flow[1:].nan_to_num())


def test_a_video_of_one_frame_has_no_pair(tmp_path):
    path = write_video(tmp_path / "short.mp4", config=SceneConfig(height=32, width=32), num_frames=1)
    with pytest.raises(VideoError, match="less than two frames"):
        read_frames_of(str(path), SizeRule(rows=48), max_frames=5)


def test_everything_that_pairs_come_from_is_gathered_and_named(tmp_path, tiny_stills):
    path = write_video(tmp_path / "drive.mp4", config=SceneConfig(height=48, width=64), num_frames=4)
    config = TrainKeyframeConfig(
        out=tmp_path / "k.safetensors",
        synthetic_scenes=1,
        consistency=1.0,
        video=(str(path),),
        video_frames=3,
        synthetic_clips=1,
        synthetic_frames=2,
        moving_stills=True,
    )
    material = gather_pairs(config, [tiny_stills], SizeRule(rows=48), lambda words: None)
    assert [type(source) for source, _ in material.sources] == [FramePairs, FramePairs, MovingStills]
    assert sum(share for _, share in material.sources) == 3
    assert material.data == (
        "drive.mp4 (3 pairs of frames, flow by OpenCV DIS (medium preset, finest scale 0))",
        "drawn streets (1 pairs of frames)",
        "4 images in motion",
    )
