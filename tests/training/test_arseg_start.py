import pytest
import torch

from gsvnet.classes import ClassSet
from gsvnet.models.checkpoints import load_checkpoint, save_checkpoint
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.arseg_pairs import PairRecipe, draw_pairs
from gsvnet.training.arseg_start import _scale_feature, start_arseg, start_fusion, without_fusion
from gsvnet.training.footage_runs import StillRuns
from gsvnet.training.stills import Stills

COLOURS = ClassSet(name="rgb", names=("r", "g", "b"), colours=((200, 0, 0), (0, 200, 0), (0, 0, 200)))


@pytest.fixture
def features():
    return torch.rand(2, 4, 12, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def started(tiny_arseg, features):
    """An AR-Seg whose fusion was measured on random features."""
    model = tiny_arseg()
    start_fusion(model, features)
    return model


def test_half_of_the_fused_feature_is_the_frames_own(started):
    images = torch.randn(1, 3, 24, 32)
    whole, half = started.keyframe_network.extract(images), started.frame_network.extract(images)
    torch.testing.assert_close(half, whole / 2)


def test_the_other_half_is_what_the_keyframe_saw(started):
    brought = torch.tensor([3.0, 1.0, 2.0, 0.5]).view(1, 4, 1, 1).expand(1, 4, 16, 16)
    low = torch.rand(1, 4, 16, 16)
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(started.fusion(brought, low)[inside], (low + brought / 2)[inside])


def test_places_with_a_similar_feature_count_more(started):
    brought = torch.zeros(1, 4, 15, 15)
    brought[:, 0, :, :7], brought[:, 1, :, 7:] = 1.0, 1.0
    low = torch.zeros(1, 4, 15, 15)
    low[:, 1] = 0.5  # half of what the keyframe sees on the right
    at_the_border = (started.fusion(brought, low) - low)[0, :2, 7, 7]
    assert at_the_border[1] > 0.4
    assert at_the_border[0] < 0.1


def test_a_place_scores_two_with_itself_and_nothing_with_others_on_average(started, features):
    queries, keys = started.fusion.query(features / 2), started.fusion.key(features)
    assert (queries * keys).sum(1).mean().item() == pytest.approx(2.0, rel=0.01)
    everywhere = queries.movedim(1, -1).flatten(0, -2) @ keys.movedim(1, 0).flatten(1)
    assert everywhere.mean().item() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("kind", [PSPNet18, PSPNet18Up])
def test_the_feature_of_every_network_can_be_scaled(kind):
    network = kind(num_classes=3).eval().requires_grad_(False)
    image = torch.randn(1, 3, 40, 48)
    before = network.extract(image)
    _scale_feature(network, 0.25)
    torch.testing.assert_close(network.extract(image), before / 4, rtol=1e-3, atol=1e-4)


def test_the_frame_network_alone_reads_frames_at_its_scale(tiny_arseg):
    model = without_fusion(tiny_arseg())
    assert model.needs(48, 64).keyframe_size == (24, 32)


@pytest.mark.parametrize(("scale", "keyframe_scale"), [(0.5, 1.0), (0.75, 1.0), (0.3, 1.0), (0.5, 1.5), (0.6, 0.75)])
def test_the_frame_network_alone_reads_the_size_that_it_was_trained_at(tiny_arseg, scale, keyframe_scale):
    model, size = tiny_arseg(), (47, 63)
    model.scale, model.size_rule = scale, SizeRule(keyframe_scale=keyframe_scale)
    stills = Stills(images=torch.zeros(1, 3, *size, dtype=torch.uint8), labels=torch.zeros(1, *size, dtype=torch.uint8))
    pairs = draw_pairs(
        model, [(StillRuns(stills), 1.0)], PairRecipe(size=size, count=1, keyframe_interval=2, fused=False, bf16=False)
    )
    assert pairs.images.shape[-2:] == without_fusion(model).needs(*size).keyframe_size


def test_frames_are_resized_as_the_keyframe_network_was_made_for(normalise, tmp_path):
    path = tmp_path / "k.safetensors"
    save_checkpoint(path, PerFrame(PSPNet18(num_classes=3), classes=COLOURS, normalise=normalise, resize="exact"))
    model = start_arseg(TrainArsegConfig(keyframe=path, out=tmp_path / "a.safetensors", camvid=tmp_path))
    assert (load_checkpoint(path).resize, model.resize, without_fusion(model).resize) == ("exact", "exact", "exact")
