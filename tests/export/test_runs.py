"""Runs of labels and the alternating lengths of each class."""

from __future__ import annotations

import numpy as np
import pytest

from gsvnet.export.runs import find_runs


def test_lengths_alternate_and_begin_with_the_others():
    runs = find_runs(np.array([7, 7, 3, 7, 3, 3], np.uint8))
    assert runs.lengths(7).tolist() == [0, 2, 1, 1, 2]
    assert runs.lengths(3).tolist() == [2, 1, 1, 2]
    assert runs.lengths(5).tolist() == [6]


def test_ignored_pixels_are_no_class():
    assert find_runs(np.array([255, 2, 2, 0, 255, 9], np.uint8)).present(9) == [0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_lengths_give_back_the_mask(seed):
    flat = np.random.default_rng(seed).integers(0, 3, 200).astype(np.uint8)
    runs = find_runs(flat)
    for label in runs.present(255):
        lengths = runs.lengths(label)
        assert (lengths[1:] > 0).all()
        np.testing.assert_array_equal(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths), flat == label)


def test_a_single_pixel_is_a_run():
    assert find_runs(np.array([4], np.uint8)).lengths(4).tolist() == [0, 1]
