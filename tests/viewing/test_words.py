from __future__ import annotations

import pytest

from gsvnet.classes import CAMVID
from gsvnet.viewing.words import clock, duration, main_classes, main_classes_in_words, percent, shorten


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (7.54, "0:07.5"), (59.96, "1:00.0"), (723, "12:03.0"), (3723.04, "1:02:03"), (-1.5, "-0:01.5")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(7.5, "7.5 s"), (723, "12 min 3 s"), (36_120, "10 h 2 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0 %"), (0.0004, "< 0.1 %"), (0.0123, "1.2 %"), (0.0996, "10 %"), (1, "100 %")]
)
def test_percent(share, text):
    assert percent(share).replace("\u00a0", " ") == text


def test_main_classes_are_the_largest_that_occur():
    shares = [0.0] * len(CAMVID)
    shares[3], shares[8] = 0.75, 0.02
    assert main_classes(shares, CAMVID) == [(3, 0.75), (8, 0.02)]
    assert main_classes_in_words(shares, CAMVID, 1).replace("\u00a0", " ") == "road 75 %"


def test_a_long_text_is_cut_and_shows_it():
    assert (shorten("12345", 5), shorten("123 56", 5)) == ("12345", "123…")
