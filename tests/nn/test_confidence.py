from __future__ import annotations

import math

import torch

from gsvnet.nn.confidence import frame_confidence


def _two_classes(probabilities: list[float]) -> torch.Tensor:
    """(1, 2, 1, n) logits whose class 0 has these probabilities."""
    return torch.tensor([[[math.log(p / (1 - p)) for p in probabilities]], [[0.0] * len(probabilities)]])[None]


def test_equal_logits_have_probability_one_over_classes():
    mean, p05 = frame_confidence(torch.full((2, 4, 3, 5), 7.0))
    assert mean.tolist() == [0.25, 0.25]
    assert p05.tolist() == [0.25, 0.25]


def test_confidence_is_the_mean_of_the_larger_probability():
    mean, _ = frame_confidence(_two_classes([0.9, 0.4]))
    torch.testing.assert_close(mean, torch.tensor([0.75]))


def test_p05_is_the_lower_nearest_rank():
    ascending = [0.5 + i / 100 for i in range(41)]
    _, p05 = frame_confidence(_two_classes(ascending[::-1]))
    torch.testing.assert_close(p05, torch.tensor([ascending[2]]))  # floor(0.05 * 40) = 2
    _, p05 = frame_confidence(_two_classes(ascending[:40][::-1]))
    torch.testing.assert_close(p05, torch.tensor([ascending[1]]))  # floor(0.05 * 39) = 1


def test_gain_is_divided_out():
    torch.manual_seed(0)
    logits, gain = torch.randn(3, 5, 4, 6), torch.rand(3, 1, 4, 6) + 0.1
    for scaled, plain in zip(frame_confidence(logits * gain, gain), frame_confidence(logits)):
        torch.testing.assert_close(scaled, plain)


def test_zero_gain_means_nothing_is_known():
    logits, gain = torch.zeros(1, 5, 1, 2), torch.ones(1, 1, 1, 2)
    logits[0, 3, 0, 0] = 200.0
    gain[..., 1] = 0
    mean, p05 = frame_confidence(logits, gain)
    torch.testing.assert_close(mean, torch.tensor([0.6]))
    torch.testing.assert_close(p05, torch.tensor([0.2]))


def test_half_precision_and_huge_logits_stay_finite():
    mean, p05 = frame_confidence(torch.tensor([6e4, -6e4], dtype=torch.float16).view(1, 2, 1, 1))
    assert mean.dtype == torch.float32
    assert (mean.item(), p05.item()) == (1.0, 1.0)


def test_classes_far_behind_add_nothing():
    logits = torch.tensor([0.0, 0.0, -90.0, -1e30]).view(1, 4, 1, 1)
    gain = torch.full((1, 1, 1, 1), 0.01)
    for result in (*frame_confidence(logits), *frame_confidence(logits, gain)):
        assert result.tolist() == [0.5]


def test_memory_layout_and_the_input_do_not_change():
    torch.manual_seed(1)
    logits, gain = torch.randn(2, 5, 4, 6), torch.rand(2, 1, 4, 6)
    before = logits.clone()
    expected = frame_confidence(logits, gain)
    for other in (logits.to(memory_format=torch.channels_last), logits.transpose(2, 3).contiguous().transpose(2, 3)):
        assert all(map(torch.equal, frame_confidence(other, gain), expected))
    assert torch.equal(logits, before)
