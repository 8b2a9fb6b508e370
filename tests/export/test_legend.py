"""The band below a picture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.export.legend import Legend


def has_colour(band: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether a square of 5 pixels has the colour; edges of letters have it by chance."""
    has = (band == colour).all(axis=2)
    for axis in (0, 1):
        has = sliding_window_view(has, 5, axis=axis).all(axis=-1)
    return bool(has.any())


@pytest.mark.parametrize(("height", "width"), [(360, 640), (1080, 1920), (540, 960)])
@pytest.mark.parametrize("classes", [CAMVID, CITYSCAPES])
def test_every_class_has_its_place_and_lights_up(height, width, classes):
    legend = Legend(classes, height, width)
    dark, lit = legend.draw([], "x"), legend.draw(range(len(classes)), "x")
    assert dark.shape == lit.shape == (legend.height, width, 3)
    assert [has_colour(lit, colour) for colour in classes.colours] == [True] * len(classes)
    assert [has_colour(dark, colour) for colour in classes.colours] == [False] * len(classes)
    assert legend.height < height / 2


def test_places_do_not_depend_on_the_others():
    legend = Legend(CAMVID, 360, 640)
    alone, all_lit = legend.draw([8], "x"), legend.draw(range(11), "x")
    np.testing.assert_array_equal((alone == CAMVID.colours[8]).all(axis=2), (all_lit == CAMVID.colours[8]).all(axis=2))


def test_of_too_many_classes_those_present_are_shown():
    colours = tuple((i, 255 - i, 7) for i in range(200))
    legend = Legend(ClassSet(name="x", names=tuple(f"class number {i}" for i in range(200)), colours=colours), 360, 640)
    assert has_colour(legend.draw([3, 199], "x"), colours[199])
    assert legend.draw(range(200), "x").shape == (legend.height, 640, 3)
    assert has_colour(legend.draw([199, *range(199)], "x"), colours[199])  # the largest
    assert not has_colour(legend.draw(range(200), "x"), colours[199])


def test_text_is_drawn():
    legend = Legend(CAMVID, 360, 640)
    changed = (legend.draw([], "0:00:01.000") != legend.draw([], "")).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 8 <= np.ptp(rows) <= 20
    assert np.ptp(columns) > 50


@pytest.mark.parametrize("names", [("車", "дерево"), ("a" * 200, "b")])
def test_odd_names_do_no_harm(names):
    legend = Legend(ClassSet(name="x", names=names, colours=((1, 2, 3), (4, 5, 6))), 90, 160)
    assert legend.draw([0, 1], "x").shape[1] == 160
