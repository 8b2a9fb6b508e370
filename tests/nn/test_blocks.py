from __future__ import annotations

import pytest
import torch

from gsvnet.nn.blocks import ConvUnit, conv_norm, equal_batches, resize


@pytest.mark.parametrize("num_rows", range(12))
@pytest.mark.parametrize("most", [1, 3, 5, 20])
def test_equal_batches_give_every_row_once_in_order_in_batches_of_one_size(num_rows, most):
    rows = torch.arange(num_rows)
    batches = [(rows[run], rows[run][new]) for run, new in equal_batches(num_rows, most)]
    assert [r for _, new in batches for r in new.tolist()] == rows.tolist()
    assert len({len(run) for run, _ in batches}) <= 1
    assert all(len(run) <= most for run, _ in batches)


def test_resize_keeps_the_corners():
    x = torch.rand(1, 1, 3, 4)
    larger = resize(x, (7, 11))
    assert torch.equal(larger[..., [0, 0, -1, -1], [0, -1, 0, -1]], x[..., [0, 0, -1, -1], [0, -1, 0, -1]])
    assert resize(x, (3, 4)) is x


@pytest.mark.parametrize("stride", [1, 2])
def test_units_round_sizes_up(stride):
    x = torch.rand(2, 3, 5, 7)
    size = (2, 4, -(-5 // stride), -(-7 // stride))
    assert ConvUnit(3, 4, stride=stride)(x).shape == size
    assert conv_norm(3, 4, stride=stride, activation=torch.nn.ReLU())(x).shape == size
