from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.nn import local_attention as module
from gsvnet.nn.local_attention import local_attention


def attend_plainly(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """The same by unfolding every window, in float64."""
    query, key, value = (x.double() for x in (query, key, value))
    n, channels, h, w = key.shape
    keys, values = (F.unfold(x, window, padding=window // 2).view(n, channels, window**2, h, w) for x in (key, value))
    weights = (query[:, :, None] * keys).sum(1).softmax(dim=1)
    return (weights[:, None] * values).sum(2)


def draw(n: int, channels: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(h * w + channels)
    query, key, value = (torch.randn(n, channels, h, w, generator=g) for _ in range(3))
    return query * channels**-0.5, key, value


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 3, 5, 17), (3, 16, 23, 30), (1, 1, 1, 1), (2, 7, 40, 3)])
@pytest.mark.parametrize("window", [1, 3, 7])
def test_it_is_a_softmax_over_the_window(shape, window):
    query, key, value = draw(*shape)
    torch.testing.assert_close(
        local_attention(query, key, value, window=window).double(),
        attend_plainly(query, key, value, window),
        rtol=1e-4,
        atol=1e-5,
    )


def test_rows_of_tiles_fit_together(monkeypatch):
    query, key, value = draw(2, 5, 45, 21)
    at_once = local_attention(query, key, value)
    monkeypatch.setattr(module, "MOST_TILE_BYTES", 1)
    torch.testing.assert_close(local_attention(query, key, value), at_once, rtol=0, atol=1e-6)


def test_without_a_preference_it_is_the_mean_over_the_window_and_zeros_beyond_the_map():
    value = torch.ones(1, 1, 9, 9)
    out = local_attention(torch.zeros_like(value), torch.randn(1, 1, 9, 9), value)[0, 0]
    torch.testing.assert_close(out[4, 4], torch.tensor(1.0))
    torch.testing.assert_close(out[0, 0], torch.tensor(16 / 49))


def test_large_scores_keep_their_differences_in_half_precision():
    """Scores of 400 and 401: a bfloat16 cannot hold 401, and both would weigh the same."""
    query, key, value = (torch.zeros(1, 2, 8, 8) for _ in range(3))
    query[0, 0], query[0, 1] = 16.0, 1.0
    key[0, 0, 4, 4:6], key[0, 1, 4, 5] = 25.0, 1.0
    value[0, :, 4, 5] = 1.0
    with torch.autocast("cpu", torch.bfloat16):
        out = local_attention(*(x.bfloat16() for x in (query, key, value)))
    assert out.dtype == torch.float32
    assert out[0, 0, 4, 4].item() == pytest.approx(torch.tensor(401.0 - 400).sigmoid().item(), abs=5e-3)


def test_half_precision_is_as_exact_as_its_maps():
    query, key, value = (x.bfloat16() for x in draw(1, 8, 12, 12))
    expected = attend_plainly(query, key, value, 7)
    assert (local_attention(query, key, value) - expected).abs().max() < 2**-7 * expected.abs().max()


def test_memory_layout_does_not_matter():
    query, key, value = draw(1, 6, 19, 11)
    channels_last = [x.contiguous(memory_format=torch.channels_last) for x in (query, key, value)]
    torch.testing.assert_close(local_attention(*channels_last), local_attention(query, key, value), rtol=0, atol=1e-6)


def test_gradients_reach_all_three():
    inputs = [x.requires_grad_() for x in draw(1, 4, 10, 9)]
    local_attention(*inputs).square().sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in inputs)
