"""The image networks that AR-Seg can be built of: BiSeNetV1 and the three forms of PSPNet-18."""

from __future__ import annotations

import pytest
import torch

from gsvnet.models.arseg import CrossResolutionFusion
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet_etc import PSPNet18ETC
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.models.spec import SPLIT_NETWORKS
from tests.models.live_bytes import LiveBytes

HEADS = {"bisenetv1": [(1, 5, 8, 12), (1, 5, 4, 6)], "pspnet18": [(1, 5, 8, 12)]}
HEADS["pspnet18etc"] = HEADS["pspnet18"]


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module", params=SPLIT_NETWORKS)
def network(request):
    torch.manual_seed(0)
    return SPLIT_NETWORKS[request.param](num_classes=5, auxiliary_heads=True).eval()


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 65)])
@torch.no_grad()
def test_features_have_the_stated_size(network, size):
    features = network.extract(torch.rand(2, 3, *size))
    assert features.shape == (2, network.feature_channels, *network.feature_size(*size))
    assert network.classify(features).shape == (2, 5, *features.shape[2:])


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_auxiliary_heads_leave_the_logits(name):
    network, image = SPLIT_NETWORKS[name](num_classes=5, auxiliary_heads=True).eval(), torch.rand(1, 3, 64, 96)
    before, (main, *others) = network(image), network.segment_with_auxiliary(image)
    assert torch.equal(main, before)
    assert [tuple(logits.shape) for logits in others] == HEADS[name]
    network.drop_auxiliary_heads()
    assert torch.equal(network(image), before)
    assert not network.has_auxiliary_heads


@torch.no_grad()
def test_the_presence_head_says_one_number_per_class():
    network, image = PSPNet18Up(num_classes=5, auxiliary_heads=True).eval(), torch.rand(2, 3, 32, 32)
    logits, presence = network.segment_with_presence(image)
    assert presence.shape == (2, 5)
    network.drop_auxiliary_heads()
    assert torch.equal(network(image), logits)


def test_dropping_heads_gives_the_network_built_without(network):
    full = type(network)(num_classes=5, auxiliary_heads=True)
    full.drop_auxiliary_heads()
    assert full.state_dict().keys() == type(network)(num_classes=5).state_dict().keys()


def test_last_layers_are_named(network):
    for name in network.classifiers:
        assert network.get_submodule(name).bias.shape == (5,)


def test_published_sizes():
    assert parameters(BiSeNetV1(num_classes=12, auxiliary_heads=True)) == 13_423_012
    assert parameters(PSPNet18Up(num_classes=12, auxiliary_heads=True)) == 17_461_979
    fused = {
        kind: parameters(CrossResolutionFusion(channels=kind.feature_channels)) for kind in SPLIT_NETWORKS.values()
    }
    assert fused == {BiSeNetV1: 7_680, PSPNet18: 15_360, PSPNet18Up: 1_920, PSPNet18ETC: 7_680}
    assert parameters(PSPNet18(num_classes=19, auxiliary_heads=True)) + 15_360 == 16_779_622
    labeling = {name: parameters(kind(num_classes=19)) for name, kind in SPLIT_NETWORKS.items()}
    assert labeling == {
        "bisenetv1": 13_275_539,
        "pspnet18": 16_169_043,
        "pspnet18up": 17_393_558,
        "pspnet18etc": 13_804_371,
    }
    assert parameters(PSPNet18ETC(num_classes=19, auxiliary_heads=True)) == 14_399_590


def test_gradients_reach_every_part(network):
    network = type(network)(num_classes=3, auxiliary_heads=True).train()
    heads = network.segment_with_presence if isinstance(network, PSPNet18Up) else network.segment_with_auxiliary
    sum(logits.square().mean() for logits in heads(torch.rand(2, 3, 32, 32))).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.slow
@torch.inference_mode()
def test_memory_is_as_stated(network):
    """What is stated holds the convolutions' own scratch too, which cannot be seen here."""
    height, width = 256, 320
    with LiveBytes() as live:
        network.extract(torch.rand(1, 3, height, width))
    assert live.peak <= network.bytes_per_pixel * height * width <= 2 * live.peak
