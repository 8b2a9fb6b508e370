from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.classes import IGNORE, ClassSet
from gsvnet.errors import ConfigError, VideoError
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.models.segmenter import SizeRule
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training import arseg_pairs, footage_runs
from gsvnet.training.arseg import ArsegLoss, choose_trained
from gsvnet.training.arseg_pairs import PairRecipe, bytes_per_pair, check_memory, draw_pairs
from gsvnet.training.footage_runs import StillRuns, VideoRuns, draw_run, draw_street_runs, read_video_runs
from gsvnet.training.stills import Stills

SIZE = (48, 64)
COLOURS = ClassSet(
    name="colours", names=("red", "green", "blue"), colours=((200, 40, 40), (40, 200, 40), (40, 40, 200))
)
RECIPE = PairRecipe(size=SIZE, count=5, keyframe_interval=4, pairs_per_run=2, bf16=False)


@pytest.fixture
def plain_colours(monkeypatch):
    monkeypatch.setattr(footage_runs, "jitter_colours", lambda view, generator: view)


@pytest.fixture
def stills() -> Stills:
    """One still of 48 x 64, coloured blobs whose first colour is twice their label plus 10."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1, 1, 6, 8), generator=generator).float()
    labels = torch.nn.functional.interpolate(labels, SIZE, mode="nearest")[:, 0].to(torch.uint8)
    return Stills(images=(labels * 80 + 10)[:, None].expand(-1, 3, -1, -1).contiguous(), labels=labels)


@pytest.fixture
def standing(stills) -> VideoRuns:
    """Twelve times the same frame, which nobody labelled."""
    return VideoRuns(stills.images.expand(12, -1, -1, -1), None, size=SIZE)


def test_a_still_in_motion_is_itself_at_one_end_of_its_run(plain_colours, stills):
    ends = set()
    for seed in range(12):
        run = StillRuns(stills).draw(5, np.random.default_rng(seed))
        for place in (0, -1):
            for image in (run.images[place], run.images[place].flip(-1)):
                if (image.int() - stills.images[0]).abs().max() <= 1:
                    ends.add(place)
    assert ends == {0, -1}


def test_labels_move_like_the_image(plain_colours, stills):
    run = StillRuns(stills).draw(5, np.random.default_rng(1))
    seen = run.targets != IGNORE
    expected = torch.where(seen, run.targets, 0).float() * 80 + 10
    apart = (run.images[:, 0].float() - expected).abs()[seen]
    assert apart.median() <= 1


def test_video_runs_lead_away_from_the_keyframe_in_equal_steps(plain_colours):
    number = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    video = VideoRuns(number.expand(20, 3, 8, 10), number[:, 0].expand(20, 8, 10), size=(4, 6))
    steps = set()
    for seed in range(30):
        run = video.draw(5, np.random.default_rng(seed))
        assert run.images.shape == (5, 3, 4, 6)
        assert torch.equal(run.images[:, 0], run.targets)
        (step,) = set(np.diff(run.images[:, 0, 0, 0].int().numpy()))
        steps.add(int(step))
    assert steps == {-2, -1, 1, 2}


def test_a_video_that_is_shorter_than_a_run_is_refused(standing):
    with pytest.raises(ConfigError, match="a run of 13 frames cannot be cut from a video of 12"):
        standing.draw(13, np.random.default_rng(0))


def test_a_real_video_is_cut_to_the_size_of_all_runs(tmp_path, media):
    path = media.write_clip(tmp_path / "v.mp4", num_frames=6, size=(32, 96))
    video = read_video_runs(str(path), SIZE, max_frames=4)
    assert video.frames.shape == (4, 3, 48, 144)
    assert video.draw(3, np.random.default_rng(0)).images.shape == (3, 3, *SIZE)


def test_a_video_of_which_no_frame_can_be_decoded_is_refused(tmp_path, media):
    path = media.write_clip(tmp_path / "v.mp4", num_frames=3, size=(32, 96))
    content = bytearray(path.read_bytes())
    first = content.index(b"mdat") + 4
    size = int.from_bytes(content[first - 8 : first - 4]) - 8
    content[first : first + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(VideoError, match="no frame can be decoded"):
        read_video_runs(str(path), SIZE, max_frames=4)


def test_drawn_streets_have_exact_labels_and_differ():
    first, second = draw_street_runs(2, 1, SIZE, seed=0)
    assert first.frames.shape == (1, 3, *SIZE)
    assert first.targets.max() < 11
    assert not torch.equal(first.targets, second.targets)


def test_sources_are_drawn_by_their_shares(standing, stills):
    sources = [(standing, 1.0), (StillRuns(stills), 3.0)]
    labelled = [draw_run(sources, 2, np.random.default_rng(seed)).targets is not None for seed in range(200)]
    assert 0.65 < np.mean(labelled) < 0.85


def test_where_nothing_moves_the_keyframes_feature_is_brought_as_it_is(tiny_arseg, standing):
    pairs = draw_pairs(tiny_arseg(), [(standing, 1.0)], RECIPE)
    inside = (pairs.brought != 0).any(dim=1, keepdim=True).expand_as(pairs.brought)
    assert inside.float().mean() > 0.9
    assert (pairs.brought - pairs.wanted)[inside].abs().max() < 2e-3


def test_a_pair_is_the_small_frame_and_the_keyframe_networks_feature_of_the_large_one(
    tiny_arseg, standing, plain_colours
):
    model = tiny_arseg()
    pairs = draw_pairs(model, [(standing, 1.0)], RECIPE)
    assert pairs.images.shape == (5, 3, 24, 32)
    still = standing.frames[:1]
    with torch.no_grad():
        features = [model.keyframe_network.extract(model.normalise(x)).half() for x in (still, still.flip(-1))]
    for wanted in pairs.wanted:
        assert min(float((wanted - feature[0]).abs().max()) for feature in features) < 2e-3


def test_what_nobody_labelled_gets_the_keyframe_networks_labels(tiny_arseg, standing):
    model = tiny_arseg()
    pairs = draw_pairs(model, [(standing, 1.0)], RECIPE)
    with torch.no_grad():
        labels = upsample_labels(model.keyframe_network.classify(pairs.wanted.float()), SIZE, align_corners=False)
    assert (labels == pairs.targets).float().mean() > 0.999


def test_pairs_follow_from_the_seed_and_without_fusion_their_frames_are_the_same(tiny_arseg, stills):
    sources = [(StillRuns(stills), 1.0)]
    first, again = (draw_pairs(tiny_arseg(), sources, RECIPE) for _ in range(2))
    alone = draw_pairs(tiny_arseg(), sources, replace(RECIPE, fused=False))
    other = draw_pairs(tiny_arseg(), sources, replace(RECIPE, seed=(1,)))
    for pairs in (again, alone):
        assert torch.equal(first.images, pairs.images)
        assert torch.equal(first.targets, pairs.targets)
    assert torch.equal(first.brought, again.brought)
    assert alone.brought is None
    assert not torch.equal(first.images, other.images)


def test_two_processes_draw_what_one_would_draw(tiny_arseg, stills):
    sources = [(StillRuns(stills), 1.0)]
    whole = draw_pairs(tiny_arseg(), sources, replace(RECIPE, count=8))
    for rank in range(2):
        part = draw_pairs(tiny_arseg(), sources, replace(RECIPE, count=4), share=slice(rank, None, 2))
        assert torch.equal(part.images, whole.images.view(4, 2, 3, 24, 32)[rank::2].flatten(0, 1))


def test_the_memory_that_is_announced_is_the_memory_that_is_taken(tiny_arseg, stills):
    pairs = draw_pairs(tiny_arseg(), [(StillRuns(stills), 1.0)], RECIPE)
    tensors = (pairs.images, pairs.targets, pairs.brought, pairs.wanted)
    assert sum(t.numel() * t.element_size() for t in tensors) == 5 * bytes_per_pair(tiny_arseg(), RECIPE)


@pytest.mark.parametrize(("total", "free"), [(150, 150), (200, 99)])
def test_more_pairs_than_fit_into_memory_are_refused(tiny_arseg, monkeypatch, total, free):
    model, recipe = tiny_arseg(), replace(RECIPE, count=80)
    each = bytes_per_pair(model, recipe)
    monkeypatch.setattr(arseg_pairs, "total_bytes", lambda: total * each)
    monkeypatch.setattr(arseg_pairs, "free_bytes", lambda: free * each)
    check_memory(model, recipe, num_held_out=19)
    most = min(int(0.8 * total), free) - 41
    with pytest.raises(ConfigError, match=rf"--pairs 80: .* GB at .* MB each; .* are free, enough for {most} pairs"):
        check_memory(model, recipe, num_held_out=41)
    monkeypatch.setattr(arseg_pairs.parallel, "num_processes", lambda: 2)
    with pytest.raises(ConfigError, match="--pairs 160: "):
        check_memory(model, recipe)


def test_sizes_follow_the_rule_of_the_keyframe_network(tiny_arseg, stills):
    model = tiny_arseg()
    model.size_rule = SizeRule(rows=96)
    pairs = draw_pairs(model, [(StillRuns(stills), 1.0)], RECIPE)
    assert pairs.images.shape[-2:] == (48, 64)
    assert pairs.wanted.shape[-2:] == (48, 64)
    assert pairs.targets.shape[-2:] == SIZE


@pytest.mark.parametrize("kind", [PSPNet18, PSPNet18Up])
def test_pairs_of_every_network_can_be_drawn_and_learned_from(normalise, stills, kind):
    networks, fusion = [kind(num_classes=3) for _ in range(2)], CrossResolutionFusion(channels=kind.feature_channels)
    model = ARSeg(*networks, fusion, classes=COLOURS, normalise=normalise).eval()
    pairs = draw_pairs(model, [(StillRuns(stills), 1.0)], replace(RECIPE, count=2))
    choose_trained(model, fused=True).train()
    ArsegLoss(model.frame_network, fusion, normalise, torch.ones(3))(pairs).sum().backward()
    assert fusion.value.weight.grad.abs().max() > 0
    assert model.frame_network.classifier.weight.grad is None
    assert all(p.grad is not None for p in model.frame_network.parameters() if p.requires_grad)
