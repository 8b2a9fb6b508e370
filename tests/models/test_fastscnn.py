from __future__ import annotations

import pytest
import torch
from torch import nn

from gsvnet.models.fastscnn import FastSCNN


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (8, 12)), ((50, 70), (7, 9)), ((1, 1), (1, 1))])
@torch.no_grad()
def test_logits_are_at_an_eighth_of_any_size(size, grid):
    assert FastSCNN(num_classes=5).eval()(torch.rand(1, 3, *size)).shape == (1, 5, *grid)


def test_it_has_one_point_one_million_parameters():
    with torch.device("meta"):
        network = FastSCNN(num_classes=19)
    assert sum(p.numel() for p in network.parameters()) == 1_137_795


@torch.no_grad()
def test_stages_have_the_channels_and_strides_of_table_1():
    network, sizes = FastSCNN(num_classes=19).eval(), []
    for stage in (*network.downsample, *network.extract, network.fuse):
        stage.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    network(torch.rand(1, 3, 64, 128))
    assert sizes == [
        (32, 32, 64), (48, 16, 32), (64, 8, 16),
        *[(64, 4, 8)] * 3, *[(96, 2, 4)] * 3, *[(128, 2, 4)] * 4, (128, 8, 16),
    ]  # fmt: skip


@torch.no_grad()
def test_a_bottleneck_adds_its_input_where_size_and_channels_stay():
    network = FastSCNN(num_classes=2).eval()
    kept = [block.residual for block in network.extract[:9]]
    assert kept == [False, True, True] * 3
    block = network.extract[1]
    nn.init.zeros_(block.block[2][1].weight)
    x = torch.rand(1, 64, 4, 4)
    assert torch.equal(block(x), x)


def test_gradients_reach_every_part():
    network = FastSCNN(num_classes=3).train()
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
