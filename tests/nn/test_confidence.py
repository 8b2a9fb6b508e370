from __future__ import annotations

import math

import pytest
import torch

from gsvnet.errors import ModelError
from gsvnet.nn.confidence import Calibration, calibrate, measure_confidence


def frame_confidence(logits, gain=None):
    confidence = measure_confidence(logits, gain=gain)
    return confidence.mean, confidence.p05


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


def test_every_class_has_the_mean_of_its_own_places():
    logits = _two_classes([0.9, 0.4, 0.7, 0.2])
    by_class = measure_confidence(logits).by_class
    torch.testing.assert_close(by_class, torch.tensor([[0.8, 0.7]]))


def test_a_class_without_places_has_no_confidence():
    by_class = measure_confidence(_two_classes([0.9, 0.8])).by_class
    assert by_class.isnan().tolist() == [[False, True]]


def test_equal_logits_are_labeled_with_the_lowest_class():
    assert measure_confidence(torch.zeros(1, 4, 2, 3)).by_class.isnan().tolist() == [[False, True, True, True]]


def test_logits_that_are_no_numbers_stay_in_their_frame():
    logits = torch.zeros(2, 3, 1, 2)
    logits[1] = torch.nan
    by_class = measure_confidence(logits).by_class
    assert by_class[0, 0] == torch.tensor(1 / 3)
    assert by_class[1].isnan().all()


def test_frames_do_not_depend_on_their_neighbours():
    torch.manual_seed(2)
    logits, distance = torch.randn(3, 5, 9, 11), torch.tensor([0, 3, 7])
    calibration = Calibration(slope=0.8, shift=0.1, shift_per_frame=0.05, farthest=5)
    together = measure_confidence(logits, calibration=calibration, distance=distance)
    alone = measure_confidence(logits[1:2], calibration=calibration, distance=distance[1:2])
    assert torch.equal(together.mean[1:2], alone.mean)
    assert torch.equal(together.by_class[1:2], alone.by_class)


def test_calibration_is_a_line_in_log_odds():
    calibration = Calibration(slope=0.5, shift=0.2, shift_per_frame=0.1, farthest=4)
    own = torch.tensor([[0.6, 0.9, 0.99]])
    calibrated = calibrate(own, calibration, torch.tensor([3]))
    torch.testing.assert_close(torch.logit(calibrated), 0.5 * torch.logit(own) + 0.2 + 0.3)


def test_beyond_the_farthest_distance_measured_nothing_is_assumed():
    calibration = Calibration(shift_per_frame=0.1, farthest=4)
    near, far = calibrate(torch.full((2, 1), 0.7), calibration, torch.tensor([4, 40]))
    assert near == far


def test_the_default_calibration_changes_nothing():
    torch.manual_seed(3)
    logits = torch.randn(2, 5, 6, 7) * 4
    own, same = measure_confidence(logits), measure_confidence(logits, calibration=Calibration())
    torch.testing.assert_close(same.mean, own.mean)
    torch.testing.assert_close(same.by_class, own.by_class)


def test_certainty_stays_finite_under_a_calibration():
    confidence = measure_confidence(torch.tensor([500.0, 0.0]).view(1, 2, 1, 1), calibration=Calibration(slope=0.5))
    assert 0.999 < confidence.mean.item() <= 1


def test_certainty_is_a_number_under_the_steepest_calibration():
    steep = Calibration(slope=100.0, shift=-100.0, shift_per_frame=10.0, farthest=10_000)
    found = calibrate(torch.tensor([[0.004, 1.0]]), steep, torch.tensor([0]))
    assert found.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": 0.0},
        {"slope": math.nan},
        {"shift": "1"},
        {"shift_per_frame": math.inf},
        {"farthest": 1.5},
        {"farthest": True},
    ],
)
def test_a_calibration_of_odd_values_is_refused(wrong):
    with pytest.raises(ModelError, match=next(iter(wrong))):
        Calibration(**wrong)
