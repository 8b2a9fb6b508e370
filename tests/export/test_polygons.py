"""Polygons around masks, and what becomes of them when they are filled again."""

from __future__ import annotations

import numpy as np
import pytest

import gsvnet.export.polygons as polygons_module
from gsvnet.export.polygons import MIN_PIXELS, fill_polygons, join_holes, trace_polygons


@pytest.fixture
def exact(monkeypatch):
    """No vertex is left out, nothing is too small."""
    monkeypatch.setattr(polygons_module, "TOLERANCE_PX", 0)
    monkeypatch.setattr(polygons_module, "MIN_PIXELS", 0)


def draw(*boxes) -> np.ndarray:
    """Mask (40, 60) uint8 of boxes (value, top, bottom, left, right), later ones over earlier."""
    mask = np.zeros((40, 60), np.uint8)
    for value, top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = value
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        draw((1, 0, 40, 0, 60)),
        draw((1, 5, 30, 10, 50)),
        draw((1, 5, 30, 10, 50), (0, 10, 20, 20, 40)),
        draw((1, 0, 40, 0, 60), (0, 5, 15, 5, 20), (0, 22, 35, 8, 18), (0, 5, 35, 30, 55)),
        draw((1, 2, 38, 2, 58), (0, 6, 34, 6, 54), (1, 10, 30, 10, 50), (0, 14, 26, 14, 46)),
        draw((1, 5, 10, 5, 10), (1, 20, 30, 40, 59)),
        draw((1, 20, 21, 3, 50)),
    ],
    ids=["full", "box", "hole", "holes", "rings", "apart", "line"],
)
def test_areas_with_right_angles_come_back_equal(mask, exact):
    np.testing.assert_array_equal(fill_polygons(trace_polygons(mask), mask.shape), mask)


def test_a_hole_is_part_of_its_polygon():
    (polygon,) = trace_polygons(draw((1, 5, 30, 10, 50), (0, 10, 20, 20, 40)))
    outside = np.array([[10, 5], [10, 29], [49, 29], [49, 5]])
    assert {tuple(point) for point in outside.tolist()} < {tuple(point) for point in polygon.tolist()}
    assert len(polygon) > 8


def test_holes_are_joined_where_they_are_nearest():
    outside, hole = np.array([[0, 0], [0, 9], [9, 9], [9, 0]]), np.array([[6, 6], [7, 7], [6, 7]])
    expected = [[0, 0], [0, 9], [9, 9], [7, 7], [6, 7], [6, 6], [7, 7], [9, 9], [9, 0]]
    assert join_holes(outside, [hole]).tolist() == expected


def test_specks_and_small_holes_go():
    side = 3  # 9 pixels
    assert side**2 < MIN_PIXELS <= 16
    assert trace_polygons(draw((1, 5, 5 + side, 5, 5 + side))) == []
    assert len(trace_polygons(draw((1, 5, 9, 5, 9)))) == 1
    (polygon,) = trace_polygons(draw((1, 5, 30, 5, 50), (0, 10, 11, 10, 11)))
    assert len(polygon) == 4


def test_thin_lines_have_three_points():
    (polygon,) = trace_polygons(draw((1, 20, 21, 3, 50)))
    assert polygon.shape == (3, 2)


def test_an_empty_mask_has_no_polygon():
    assert trace_polygons(draw()) == []


def test_rough_borders_are_kept_nearly(awkward):
    rough = np.random.default_rng(1).normal(size=(30, 40)).cumsum(0).cumsum(1)
    mask = np.kron(rough > np.median(rough), np.ones((5, 5))).astype(np.uint8)
    filled = fill_polygons(trace_polygons(mask), mask.shape)
    assert np.count_nonzero(mask & filled) / np.count_nonzero(mask | filled) > 0.97
