from __future__ import annotations

import pytest
import torch

from gsvnet.models.swiftnet import SwiftNet


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (16, 24)), ((50, 70), (13, 18)), ((33, 33), (9, 9))])
@torch.no_grad()
def test_logits_are_at_a_quarter_of_any_size(size, grid):
    assert SwiftNet(num_classes=5).eval()(torch.rand(1, 3, *size)).shape == (1, 5, *grid)


def test_published_size():
    with torch.device("meta"):
        network = SwiftNet(num_classes=19)
    assert sum(p.numel() for p in network.parameters()) == 11_797_071


def test_gradients_reach_every_part():
    network = SwiftNet(num_classes=3).train()
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
