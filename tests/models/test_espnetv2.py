from __future__ import annotations

import pytest
import torch

from gsvnet.models.espnetv2 import ESPNetv2


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (32, 48)), ((50, 70), (25, 35)), ((33, 17), (17, 9))])
@torch.no_grad()
def test_logits_are_at_a_half_of_any_size(size, grid):
    network = ESPNetv2(num_classes=5, width=0.5).eval()
    assert network(torch.rand(1, 3, *size)).shape == (1, 5, *grid)


@pytest.mark.parametrize(("width", "count"), [(0.5, 80_342), (1.0, 234_010), (1.5, 468_362), (2.0, 789_242)])
def test_published_sizes(width, count):
    with torch.device("meta"):
        networks = [ESPNetv2(num_classes=n, width=width) for n in (20, 19)]
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [count, count - 11]


def test_gradients_reach_every_part_that_is_trained():
    network = ESPNetv2(num_classes=3, width=0.5).train()
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


def test_only_the_unused_activations_of_the_published_files_are_not_trained():
    still = [name for name, p in ESPNetv2(num_classes=3, width=0.5).named_parameters() if not p.requires_grad]
    assert still == [f"base_net.{level}.eesp.module_act.weight" for level in ("level2_0", "level3_0", "level4_0")]
