from __future__ import annotations

import numpy as np

from tests.parity.published_motion import merge_motion


def still(num_frames: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.zeros((num_frames, height, width, 3), np.int16)


def test_steps_add_up_in_whole_pixels():
    vectors = still(3)
    vectors[..., 0] = 4
    merged = merge_motion(vectors)
    assert merged.dtype == np.int16
    assert merged[:, 0, 0].tolist() == [[4, 0], [8, 0], [12, 0]]
    assert merged[2, 0, 4].tolist() == [4, 0]  # the frame ends there


def test_half_pixels_are_rounded_to_even():
    vectors = still(1)
    vectors[0, 0, :3, 0] = 2, 6, 5  # 0.5, 1.5 and 1.25 pixels
    assert merge_motion(vectors)[0, 0, :3, 0].tolist() == [0, 8, 4]


def test_a_reference_index_skips_frames():
    vectors = still(2)
    vectors[0, ..., 0] = 4
    vectors[1, ..., 1], vectors[1, ..., 2] = 4, 1  # straight from frame 0
    assert merge_motion(vectors)[1, 0, 0].tolist() == [0, 4]


def test_an_impossible_reference_index_means_no_motion_from_the_frame_before():
    vectors = still(2)
    vectors[0, ..., 0] = 4
    vectors[1, ..., 0], vectors[1, ..., 2] = 400, -7
    assert merge_motion(vectors)[1, 0, 0].tolist() == [4, 0]
