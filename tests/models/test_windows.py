from __future__ import annotations

import pytest

from gsvnet.models.windows import choose_windows

EVERYTHING = range(100)


def choose(index, references, *, turn=None, num=4, seen=EVERYTHING):
    turn = index % num if turn is None else turn
    return choose_windows(index, turn, num_sub_networks=num, references=references, seen=seen)


@pytest.mark.parametrize("index", range(8, 12))
def test_the_window_before_runs_from_the_oldest_frame_to_the_one_just_before(index):
    assert choose(index, "before") == [(index - 3, index - 2, index - 1)]


@pytest.mark.parametrize("index", range(8, 12))
@pytest.mark.parametrize("references", ["before", "nearest", "both"])
def test_windows_are_ordered_by_sub_network_from_the_next_one_on(index, references):
    wanted = [(index + j) % 4 for j in (1, 2, 3)]
    assert all([frame % 4 for frame in window] == wanted for window in choose(index, references))


def test_the_window_behind_holds_the_frames_just_after():
    assert choose(9, "both") == [(6, 7, 8), (10, 11, 12)]


def test_the_nearest_frames_lie_on_both_sides_and_before_where_as_near():
    assert choose(9, "nearest") == [(10, 7, 8)]  # sub-network 3: frame 7 and frame 11 are as near
    assert choose(9, "nearest", num=2) == [(8,)]


@pytest.mark.parametrize("references", ["none", "before", "nearest", "both"])
def test_a_frame_that_is_alone_has_no_window(references):
    assert choose(9, references, seen={9}) == []


@pytest.mark.parametrize(
    ("references", "lost", "windows"),
    [
        ("before", {7}, []),
        ("both", {7}, [(10, 11, 12)]),
        ("both", {11}, [(6, 7, 8)]),
        ("both", {7, 11}, []),
        ("nearest", {7}, [(10, 11, 8)]),
        ("nearest", {10}, [(6, 7, 8)]),
        ("nearest", {7, 11}, []),
    ],
)
def test_lost_frames_are_replaced_by_the_other_side_where_that_is_allowed(references, lost, windows):
    assert choose(9, references, seen=set(EVERYTHING) - lost) == windows


def test_references_to_none_have_no_window():
    assert choose(9, "none") == []


@pytest.mark.parametrize("references", ["before", "nearest"])
def test_a_sub_network_out_of_turn_gathers_from_the_frame_itself(references):
    (window,) = choose(9, references, turn=2)
    assert 9 in window
    assert sorted(frame % 4 for frame in window) == [0, 1, 3]
