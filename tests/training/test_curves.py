import sys

import numpy as np
import pytest
from PIL import Image

from gsvnet.errors import MissingExtra
from gsvnet.training.curves import draw_curves, load_matplotlib, read_log, smooth
from gsvnet.training.state import append_log


def records(losses, **more):
    return [{"epoch": i, "loss": loss, **more} for i, loss in enumerate(losses, start=1)]


@pytest.fixture
def draw(tmp_path):
    """Draw records and say how large the picture is: (width, height) in pixels."""

    def run(records):
        draw_curves(records, tmp_path / "curves.png", unit="epoch", title="k.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
        with Image.open(tmp_path / "curves.png") as picture:
            picture.load()
            return picture.size

    return run


def test_smoothing_leaves_a_straight_line_alone_but_for_its_end():
    line = np.arange(20.0)
    assert smooth(line, 3)[:17].tolist() == line[:17].tolist()
    assert smooth(line, 3)[-1] == np.mean([16, 17, 18, 19])


def test_smoothing_takes_as_many_neighbours_from_both_sides():
    assert smooth(np.array([0, 0, 0, 0, 9.0, 0, 0, 0, 0]), 1).tolist() == [0, 0, 0, 3, 3, 3, 0, 0, 0]
    assert smooth(np.array([9.0, 0, 0, 0]), 2)[:2].tolist() == [9, 0]


def test_smoothing_spreads_a_gap_no_further_than_it_reaches():
    smoothed = smooth(np.array([1.0, 1, 1, np.nan, 1, 1, 1]), 1)
    assert np.flatnonzero(np.isnan(smoothed)).tolist() == [2, 3, 4]


def test_score_and_learning_rate_get_panels_of_their_own(draw):
    losses = np.linspace(3, 1, 12)
    heights = [
        draw(records(losses, **more))[1]
        for more in ({"held_out_miou": None}, {"learning_rate": 0.1}, {"learning_rate": 0.1, "held_out_miou": 0.5})
    ]
    assert heights == sorted(set(heights))


@pytest.mark.parametrize("losses", [[2.0], [100.0, 0.0, 0.1], [float("nan")] * 12])
def test_no_loss_is_too_odd_to_be_drawn(draw, losses):
    draw(records(losses, held_out_miou=float("nan")))


def test_the_log_is_read_as_it_was_written(tmp_path):
    for record in records([2.0, float("nan"), 0.5]):
        append_log(tmp_path, record)
    assert [record["epoch"] for record in read_log(tmp_path)] == [1, 2, 3]
    assert np.isnan(read_log(tmp_path)[1]["loss"])


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[train\]"):
        load_matplotlib("figure")
