import pytest

from gsvnet.training.schedule import cosine_with_warmup


def test_the_rate_climbs_to_its_peak_then_falls_along_half_a_cosine():
    assert [cosine_with_warmup(step, 12, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert cosine_with_warmup(4, 12, 4) == 1.0
    assert cosine_with_warmup(8, 12, 4) == pytest.approx(0.5)
    assert cosine_with_warmup(12, 12, 4) == pytest.approx(0)


def test_without_warmup_it_starts_at_its_peak():
    assert cosine_with_warmup(0, 10, 0) == 1.0
