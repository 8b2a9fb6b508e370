import pytest
import torch

from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.training.arseg_start import _scale_feature, start_fusion, without_fusion


@pytest.fixture
def started(tiny_arseg):
    """An AR-Seg whose fusion was measured on random features."""
    model = tiny_arseg()
    start_fusion(model, torch.rand(2, 4, 12, 16, generator=torch.Generator().manual_seed(0)))
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
    low[:, 1] = 20.0
    at_the_border = (started.fusion(brought, low) - low)[0, :2, 7, 7]
    assert at_the_border[1] > 0.4
    assert at_the_border[0] < 0.1


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
