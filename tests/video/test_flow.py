from __future__ import annotations

import sys

import numpy as np
import pytest

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.synthetic.scene import SceneConfig, SceneFrame, StreetScene
from gsvnet.video.flow import estimate_flow

pytest.importorskip("cv2")


def _texture(height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth noise (H, W, 3) uint8 without a flat spot."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = sum(np.sin(x / a + y / b + a) for a, b in ((3, 7), (5, -4), (11, 3), (-8, 13)))
    return np.repeat((128 + 30 * waves).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def street() -> tuple[SceneFrame, SceneFrame]:
    """Two frames of a drawn drive at 15 Hz, earlier first."""
    scene = StreetScene(SceneConfig(height=180, width=240, seed=1))
    return scene.frame(10), scene.frame(11)


def test_an_image_and_itself_have_no_flow():
    flow, valid = estimate_flow(_texture(), _texture())
    assert flow.shape == (2, 96, 128)
    assert flow.dtype == np.float32
    assert not flow.any()
    assert valid.all()


def test_flow_points_from_the_current_image_to_the_previous_one():
    wide = _texture(96, 160)
    flow, _ = estimate_flow(wide[:, 5:133], wide[:, :128])  # the current image's (x, y) was at (x + 5, y)
    np.testing.assert_allclose(np.median(flow.reshape(2, -1), axis=1), (5, 0), atol=0.1)


def test_what_came_into_view_is_not_valid():
    wide = _texture(96, 160)
    _, valid = estimate_flow(wide[:, 8:136], wide[:, :128])
    assert not valid[:, -7:].any()
    assert valid[:, 16:-24].mean() > 0.95


def test_what_was_hidden_is_not_valid():
    background = _texture()
    previous, current = background.copy(), background.copy()
    square = 255 - _texture(40, 40)
    previous[30:70, 40:80] = square
    current[30:70, 48:88] = square  # moves to the right: columns 40..47 come out from behind it
    _, valid = estimate_flow(current, previous)
    assert valid[34:66, 41:46].mean() < 0.5
    assert valid[34:66, 56:80].mean() > 0.9
    assert valid[:, :24].mean() > 0.99


def test_end_point_error_on_a_drawn_street(street):
    previous, current = street
    flow, valid = estimate_flow(current.image, previous.image)
    error = np.hypot(*(flow - current.flow))
    assert valid.mean() > 0.95
    assert error[current.flow_valid & valid].mean() < 0.35  # pixels
    assert np.median(error[current.flow_valid & valid]) < 0.25
    assert np.hypot(*current.flow)[current.flow_valid].mean() > 1.5  # there is something to get wrong


def test_the_check_rejects_flow_that_is_wrong(street):
    previous, current = street
    flow, valid = estimate_flow(current.image, previous.image)
    wrong = current.flow_valid & (np.hypot(*(flow - current.flow)) > 3)
    assert valid[wrong].mean() < valid[current.flow_valid].mean() - 0.2


@pytest.mark.parametrize(
    ("current", "previous", "message"),
    [
        (np.zeros((20, 30, 3), np.uint8), np.zeros((20, 31, 3), np.uint8), r"\(20, 30\) and \(20, 31\)"),
        (np.zeros((20, 30, 3), np.float32), np.zeros((20, 30, 3), np.uint8), "float32"),
        (np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((11, 30, 3), np.uint8), np.zeros((11, 30, 3), np.uint8), "12 or more"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(current, previous, message):
    with pytest.raises(ConfigError, match=message):
        estimate_flow(current, previous)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[evaluate\]"):
        estimate_flow(_texture(), _texture())
