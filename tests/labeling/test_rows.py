from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from gsvnet.classes import IGNORE
from gsvnet.errors import NotNumbers
from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.rows import RowMaker, enlarge_nearest
from gsvnet.models.segmenter import LogitsBatch
from gsvnet.nn.confidence import Calibration
from gsvnet.store.codec import decode_mask

INTERVAL = 4


def label(basis="keyframe", *, uncertain=False, **parts):
    """Rows of frames 10, 11 and 12, of which 10 is the keyframe, and 13 the one after the chunk."""
    maker = make_maker(basis, uncertain)
    places = {(0, p): FramePlace(index=10 + p, pts=p, keyframe=10, chunk=0, position=p) for p in range(3)}
    output = LogitsBatch(
        chunk=torch.zeros(3, dtype=torch.int64),
        position=torch.arange(3),
        **{"logits": torch.zeros(3, 2, 2, 2)} | parts,
    )
    return maker.label(output, places)


def make_maker(basis, uncertain=False):
    return RowMaker(
        size=(4, 6),
        time_base=Fraction(1, 10),
        num_classes=2,
        clock=StageClock(),
        interval=INTERVAL,
        basis=basis,
        uncertain=uncertain,
    )


def drawn_on(rows):
    return [(row.is_keyframe, row.keyframe_distance) for row in rows]


@pytest.mark.parametrize(
    ("basis", "rows"),
    [
        ("keyframe", [(True, 0), (False, 1), (False, 2)]),
        ("itself", [(True, 0)] * 3),
        ("neighbours", [(False, None)] * 3),
    ],
)
def test_rows_say_what_the_labels_are_drawn_from(basis, rows):
    assert drawn_on(label(basis)) == rows


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("calibration", [None, Calibration(slope=2.0)])
def test_no_label_is_drawn_from_what_is_no_number(value, calibration):
    maker = replace(make_maker("keyframe"), calibration=calibration)
    places = {(0, p): FramePlace(index=10 + p, pts=p, keyframe=10, chunk=0, position=p) for p in range(2)}
    logits = torch.zeros(2, 2, 2, 2)
    logits[1, 0, 0, 0] = value
    output = LogitsBatch(chunk=torch.zeros(2, dtype=torch.int64), position=torch.arange(2), logits=logits)
    with pytest.raises(NotNumbers, match="frame 11: the network's output holds NaN or infinity"):
        maker.label(output, places)


def test_a_place_without_any_class_has_no_label():
    logits = torch.zeros(3, 2, 2, 2)
    logits[1, :, 0, 0] = -torch.inf
    with pytest.raises(NotNumbers, match="rules out every class"):
        label(logits=logits)


def test_a_class_may_be_ruled_out_by_minus_infinity():
    logits = torch.zeros(3, 2, 2, 2)
    logits[:, 1] = -torch.inf
    for row in label(logits=logits):
        assert row.confidence == 1
        assert not decode_mask(row.mask, row.height, row.width).any()


def test_the_distance_to_the_next_keyframe_counts_where_that_was_used():
    assert drawn_on(label(keyframe=torch.tensor([10, 10, 13]))) == [(True, 0), (False, 1), (False, 1)]


def test_keyframes_that_a_network_chose_inside_a_chunk_are_keyframes():
    rows = label(start=torch.tensor([0, 0, 2]), interval=torch.tensor([2, 2, 1]))
    assert drawn_on(rows) == [(True, 0), (False, 1), (True, 0)]
    assert [row.keyframe_interval for row in rows] == [2, 2, 1]


def test_rows_say_how_far_apart_keyframes_are_where_there_are_some():
    found = {basis: {row.keyframe_interval for row in label(basis)} for basis in ("keyframe", "itself", "neighbours")}
    assert found == {"keyframe": {INTERVAL}, "itself": {None}, "neighbours": {None}}


def test_what_is_not_labels_has_no_row():
    assert label(role="arrival") == []


SIDES = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [1, IGNORE]]], dtype=torch.uint8).expand(3, 2, 2, 2)


def test_where_both_sides_of_a_place_differ_its_pixels_are_uncertain():
    found = label(uncertain=True, sides=SIDES)
    masks = [decode_mask(row.mask_uncertain, 4, 6) for row in found]
    assert [["".join(map(str, line)) for line in mask] for mask in masks] == [["000111"] * 2 + ["000000"] * 2] * 3


def test_uncertain_pixels_are_kept_where_they_are_asked_for_and_there_are_two_sides():
    assert {row.mask_uncertain for row in (*label(sides=SIDES), *label(uncertain=True))} == {None}


@pytest.mark.parametrize(
    ("align_corners", "expected"), [(True, [0, 0, 1, 1, 1, 1, 2, 2]), (False, [0, 0, 0, 1, 1, 2, 2, 2])]
)
def test_pixels_get_the_sample_that_is_nearest_to_them(align_corners, expected):
    maps = np.arange(3, dtype=np.uint8).reshape(1, 3, 1)
    assert enlarge_nearest(maps, (8, 2), align_corners=align_corners)[0].T.tolist() == [expected] * 2


def test_a_lost_frame_has_no_keyframe_whatever_the_network_is():
    row = make_maker("itself").lost(FramePlace(index=3, pts=3, keyframe=3, chunk=0, position=None))
    assert (row.is_keyframe, row.keyframe_distance, row.status) == (False, None, "decode_error")
