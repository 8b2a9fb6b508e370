from __future__ import annotations

import pytest
import torch

from gsvnet.models.bisenet import BiSeNet


@pytest.fixture(scope="module")
def network() -> BiSeNet:
    torch.manual_seed(0)
    return BiSeNet(num_classes=5, auxiliary_heads=True).eval()


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (8, 12)), ((50, 70), (7, 9)), ((33, 33), (5, 5))])
@torch.no_grad()
def test_logits_are_at_an_eighth_of_any_size(network, size, grid):
    assert network(torch.rand(1, 3, *size)).shape == (1, 5, *grid)


@torch.no_grad()
def test_auxiliary_heads_stand_at_a_sixteenth_and_an_eighth(network):
    image = torch.rand(2, 3, 64, 96)
    main, sixteenth, eighth = network.segment_with_auxiliary(image)
    assert torch.equal(main, network(image))
    assert sixteenth.shape == (2, 5, 4, 6)
    assert eighth.shape == (2, 5, 8, 12)


@torch.no_grad()
def test_dropping_auxiliary_heads_leaves_the_logits():
    network = BiSeNet(num_classes=5, auxiliary_heads=True).eval()
    image = torch.rand(1, 3, 32, 32)
    before = network(image)
    network.drop_auxiliary_heads()
    assert torch.equal(network(image), before)
    assert network.state_dict().keys() == BiSeNet(num_classes=5).state_dict().keys()


def test_published_sizes():
    count = {
        heads: sum(p.numel() for p in BiSeNet(num_classes=19, auxiliary_heads=heads).parameters()) for heads in (0, 1)
    }
    assert count == {1: 13_494_777, 0: 12_894_163}


def test_gradients_reach_every_part():
    network = BiSeNet(num_classes=3, auxiliary_heads=True).train()
    sum(logits.square().mean() for logits in network.segment_with_auxiliary(torch.rand(2, 3, 32, 32))).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
