from __future__ import annotations

import pytest
import torch
from torch import nn

from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.espnetv2 import ESPNetv2
from gsvnet.models.fastscnn import FastSCNN
from gsvnet.models.propagation import Propagation
from gsvnet.models.swiftnet import SwiftNet
from gsvnet.nn.folding import fold_batch_norms


def settle(network: nn.Module) -> nn.Module:
    """Batch norms with statistics and weights of their own, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(norm.bias, 0, 0.2, generator=generator)
    return network.eval()


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


@pytest.mark.parametrize(
    ("build", "left"), [(SwiftNet, 12), (BiSeNet, 0), (FastSCNN, 0), (ESPNetv2, 23)], ids=lambda x: str(x)[-20:]
)
@torch.inference_mode()
def test_folded_networks_say_the_same(build, left):
    network = settle(build(num_classes=5))
    folded = fold_batch_norms(network)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)
    assert count_norms(folded) == left  # those that act before a convolution


@torch.inference_mode()
def test_propagation_has_no_batch_norm_left():
    propagation = settle(Propagation(num_classes=5))
    folded = fold_batch_norms(propagation)
    state, frames = torch.rand(1, 6, 32, 48), torch.randn(2, 1, 3, 32, 48)
    torch.testing.assert_close(folded(state, *frames), propagation(state, *frames), rtol=1e-4, atol=1e-4)
    assert count_norms(folded) == 0


def test_the_network_itself_stays_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fold_batch_norms(network)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(5), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4)])
def test_what_does_not_fit_is_left_alone(norm):
    folded = fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), norm))
    assert type(folded[1]) is type(norm)
