"""Motion over many frames, from fields that are written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gsvnet.video.motion import FrameMotion, trace_to_keyframe, trace_to_next_keyframe
from tests.video.moving import field

NOTHING = field(0, 0, 0)


def test_a_path_to_the_keyframe_adds_its_steps_up():
    motion, known = trace_to_keyframe([field(0, 0, 0), field(2, 1, 1), field(3, 0, 1)], 16, 24)
    assert motion[:, 0, 0, 0].tolist() == [0, 2, 5]
    assert motion[:, 1, 0, 0].tolist() == [0, 1, 1]
    assert known[2, 0].tolist() == [x + 5 < 24 for x in range(24)]


def test_a_path_leaps_over_frames_that_were_no_reference():
    motion, known = trace_to_keyframe([field(0, 0, 0), field(0, 0, 0), field(4, 0, 2)], 16, 24)
    assert (motion[2, 0] == 4).all()
    assert not known[1].any()
    assert known[2, :, :20].all()


def test_a_path_stays_in_place_at_an_i_frame_and_is_not_known_after_it():
    motion, known = trace_to_keyframe([field(0, 0, 0), field(2, 0, 1), field(0, 0, 0), field(2, 0, 1)], 16, 24)
    assert motion[:, 0, 0, 0].tolist() == [0, 2, 2, 4]
    assert known.any(axis=(1, 2)).tolist() == [True, True, False, False]


def test_a_lost_frame_is_stepped_over():
    lost = field(0, 0, 0, rows=0, columns=0)
    motion, known = trace_to_keyframe([field(0, 0, 0), lost, field(4, 0, 2)], 16, 24)
    assert not known[1].any()
    assert known[2, :, :20].all()
    assert (motion[2, 0] == 4).all()


def test_parts_of_a_cell_add_up_exactly():
    chunk = [field(0, 0, 0, rows=6, columns=8), *[field(2, -1, 1, rows=6, columns=8)] * 11]
    motion, known = trace_to_keyframe(chunk, 6, 8)
    assert (motion[11, 0] == 11 * 2 / 8).all()
    assert (motion[11, 1] == -11 / 8).all()
    assert known[11].tolist() == [[y - 11 / 8 >= -0.5 and x + 11 * 2 / 8 <= 7.5 for x in range(8)] for y in range(6)]


def zoom(scale: float, rows: int = 20, columns: int = 30) -> FrameMotion:
    """A frame in which a cell at p from the middle was at scale * p in the frame before."""
    frame = field(0, 0, 1, rows=rows, columns=columns)
    frame.vector[0] = 8 * (scale - 1) * (np.arange(columns) - (columns - 1) / 2)
    frame.vector[1] = 8 * (scale - 1) * (np.arange(rows) - (rows - 1) / 2)[:, None]
    return frame


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_a_zoom_leads_to_where_it_came_from(scale):
    motion, known = trace_to_keyframe([zoom(scale)] * 12, 20, 30)
    wanted = (scale**11 - 1) * (np.arange(30) - 14.5)
    assert known[11, 10].tolist() == (np.abs(wanted + np.arange(30) - 14.5) < 15).tolist()
    error = np.abs(motion[11, 0] - wanted)
    assert error[:, 6:-6].max() < 1e-3
    assert error[known[11]].max() < 0.2  # at the border, nothing lies beyond to interpolate with


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_a_zoom_turned_round_leads_to_where_it_goes(scale):
    motion, known = trace_to_next_keyframe([zoom(scale)] * 12, zoom(scale), 20, 30)
    wanted = (scale**-12 - 1) * (np.arange(30) - 14.5)
    assert known[0, 10].tolist() == (np.abs(wanted + np.arange(30) - 14.5) < 15).tolist()
    error = np.abs(motion[0, 0] - wanted)
    assert error[:, 6:-6].max() < 0.01
    assert error[known[0]].max() < 0.2


def test_the_way_on_is_interpolated_between_known_cells_only():
    first = field(8, 0, 1, columns=8)
    first.distance[:, 4:] = 0
    motion, known = trace_to_keyframe([NOTHING, first, field(2, 0, 1, columns=8)], 2, 8)
    assert (motion[2, 0, :, :4] == 1.25).all()
    assert known[2, 0].tolist() == [x + 0.25 < 3.5 for x in range(8)]


def test_a_frame_ahead_is_followed_within_the_chunk():
    motion, known = trace_to_keyframe([NOTHING, field(-2, 0, -1), field(4, 0, 2)], 16, 24)
    assert (motion[1, 0] == 2).all()
    assert known[1, :, 2:20].all()


@pytest.mark.parametrize(("distances", "lost"), [((2, 1), [True, True]), ((1, -1), [False, True])])
def test_a_reference_outside_the_chunk_is_not_known(distances, lost):
    _, known = trace_to_keyframe([NOTHING, *(field(0, 0, distance) for distance in distances)], 16, 24)
    assert [not of_frame.any() for of_frame in known[1:]] == lost


def test_frames_that_lead_to_each_other_are_not_known():
    _, known = trace_to_keyframe([NOTHING, field(1, 0, -1), field(1, 0, 1), field(1, 0, 3)], 16, 24)
    assert known.any(axis=(1, 2)).tolist() == [True, False, False, True]


def test_motion_to_the_next_keyframe_turns_steps_round():
    motion, known = trace_to_next_keyframe([NOTHING, field(2, 1, 1)], field(3, 0, 1), 16, 24)
    assert motion[:, 0, -1, -1].tolist() == [-5, -3]
    assert motion[:, 1, -1, -1].tolist() == [-1, 0]
    assert known[0].tolist() == [[x - 5 >= 0 and y - 1 >= 0 for x in range(24)] for y in range(16)]


def test_steps_over_several_frames_are_turned_round_at_constant_speed():
    motion, known = trace_to_next_keyframe([NOTHING, field(4, 0, 2)], field(-2, 0, -1), 16, 24)
    assert (motion[0, 0, :, 6:] == -4).all()
    assert known[0, :, 6:].all()


@pytest.mark.parametrize("last", [NOTHING, field(0, 0, 0, rows=0, columns=0)], ids=["I-frame", "lost"])
def test_nothing_is_known_of_the_way_to_a_next_keyframe_without_vectors(last):
    motion, known = trace_to_next_keyframe([NOTHING, field(2, 0, 1)], last, 16, 24)
    assert motion.shape == (2, 2, 16, 24)
    assert not known.any()


def test_what_no_later_block_came_from_is_not_known():
    last = field(0, 0, 1)
    last.vector[0, :, 1] = -8  # the middle column came from where the left one was
    _, known = trace_to_next_keyframe([NOTHING], last, 2, 3)
    assert known[0].tolist() == [[True, False, True]] * 2


def test_ways_turn_with_a_rotated_picture():
    chunk = [field(0, 0, 0, rotation=90), field(1, 0, 1, rotation=90)]
    assert (trace_to_keyframe(chunk, 24, 16)[0][1, 1] == -1).all()
    assert (trace_to_next_keyframe(chunk, field(2, 0, 1, rotation=90), 24, 16)[0][1, 1, :22] == 2).all()
