"""Motion that a small encoder finds between images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gsvnet.errors import ConfigError
from gsvnet.video.proxy import trace_by_proxy, trace_to_next_by_proxy
from tests.video.moving import draw_texture, pan_texture


def assert_pans(motion, known, step, *, cell: int, share: float = 0.9) -> None:
    """Motion (N, 2, gh, gw) in cells of so many pixels is i * step for image i, where it is known."""
    for i in range(len(motion)):
        error = np.hypot(*(motion[i] * cell - i * np.array(step)[:, None, None]))
        assert (error[known[i]] < 0.25 * cell).mean() > share


@pytest.mark.parametrize("size", [(96, 128), (91, 133), (180, 240)])
def test_a_moved_picture_gives_its_motion_to_the_first_image(size):
    grid = size[0] // 4, size[1] // 4
    motion, known = trace_by_proxy(pan_texture(*size, 12), grid)
    assert motion.shape == (12, 2, *grid)
    assert motion.dtype == np.float32
    assert_pans(motion, known, (3, 2), cell=4)
    in_sight = (1 - 22 / size[0]) * (1 - 33 / size[1])
    assert 0.8 * in_sight < known[11].mean() < 1.1 * in_sight


def test_images_in_reverse_give_the_way_ahead():
    motion, known = trace_by_proxy(pan_texture(96, 128, 6)[::-1], (24, 32))
    assert_pans(motion, known, (-3, -2), cell=4)


@pytest.mark.parametrize("num_images", [1, 5])
def test_the_way_to_the_next_keyframe_is_found_from_there_backwards(num_images):
    *images, next_keyframe = pan_texture(96, 128, num_images + 1)
    motion, known = trace_to_next_by_proxy(images, next_keyframe, (24, 32))
    backwards, backwards_known = trace_by_proxy([next_keyframe, *images[::-1]], (24, 32))
    np.testing.assert_array_equal(motion, backwards[1:][::-1])
    np.testing.assert_array_equal(known, backwards_known[1:][::-1])
    assert motion.flags.c_contiguous  # a tensor takes no other
    assert known.flags.c_contiguous


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (7, 9), (15, 40), (17, 17)])
def test_tiny_images_have_motion(size):
    motion, known = trace_by_proxy(pan_texture(*size, 3), (2, 3))
    assert np.isfinite(motion).all()
    assert known[0].all()


def test_one_image_lies_on_itself():
    motion, known = trace_by_proxy(pan_texture(40, 60, 1), (5, 8))
    assert not motion.any()
    assert known.all()


def test_equal_images_do_not_move():
    motion, known = trace_by_proxy(pan_texture(90, 120, 1) * 64, (23, 30))
    assert motion.shape[0] == 64
    assert not motion.any()
    assert known.all()


def test_another_scene_is_not_known():
    other = np.repeat(draw_texture(1)[:96, :128, None], 3, 2)
    _, known = trace_by_proxy([*pan_texture(96, 128, 2), other, other], (24, 32))
    assert known[1].mean() > 0.9
    assert known[3].mean() < 0.4


def test_motion_depends_on_nothing_but_its_images():
    images = pan_texture(90, 122, 8)
    noise = np.random.default_rng(0).integers(-9, 9, (8, 90, 122, 1))
    images = [(np.clip(i.astype(int) + n, 0, 255)).astype(np.uint8) for i, n in zip(images, noise)]
    alone = trace_by_proxy(images, (11, 15))
    with ThreadPoolExecutor(4) as threads:
        others = list(threads.map(lambda _: trace_by_proxy(images, (11, 15)), range(8)))
    for motion, known in others:
        assert motion.tobytes() == alone[0].tobytes()
        assert known.tobytes() == alone[1].tobytes()


@pytest.mark.parametrize(
    "images",
    [
        [],
        [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)],
        [np.zeros((8, 8), np.uint8)],
        [np.zeros((8, 8, 3), np.float32)],
        [np.zeros((0, 8, 3), np.uint8)],
    ],
    ids=["none", "two sizes", "no colours", "floats", "no rows"],
)
def test_other_images_are_refused(images):
    with pytest.raises(ConfigError, match="images of"):
        trace_by_proxy(images, (1, 1))


def test_an_empty_grid_is_refused():
    with pytest.raises(ConfigError, match=r"grid \(0, 4\)"):
        trace_by_proxy(pan_texture(16, 16, 1), (0, 4))


def test_an_ffmpeg_without_the_encoder_is_named(monkeypatch):
    monkeypatch.setattr("av.codecs_available", {"h264"})
    with pytest.raises(ConfigError, match="libx264"):
        trace_by_proxy(pan_texture(16, 16, 1), (2, 2))
