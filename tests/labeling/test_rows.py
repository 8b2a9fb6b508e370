from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.rows import RowMaker
from gsvnet.models.segmenter import LogitsBatch


def label(basis, *, from_next=None):
    """Rows of frames 10, 11 and 12, of which 10 is the keyframe, and 13 the one after the chunk."""
    maker = RowMaker(size=(4, 6), time_base=Fraction(1, 10), num_classes=2, clock=StageClock(), basis=basis)
    places = {
        (0, p): FramePlace(index=10 + p, pts=p, keyframe=10, chunk=0, position=p, next_keyframe=13) for p in range(3)
    }
    output = LogitsBatch(
        chunk=torch.zeros(3, dtype=torch.int64),
        position=torch.arange(3),
        logits=torch.zeros(3, 2, 2, 2),
        from_next=from_next,
    )
    return [(row.is_keyframe, row.keyframe_distance) for row in maker.label(output, places)]


@pytest.mark.parametrize(
    ("basis", "rows"),
    [
        ("keyframe", [(True, 0), (False, 1), (False, 2)]),
        ("itself", [(True, 0)] * 3),
        ("neighbours", [(False, None)] * 3),
    ],
)
def test_rows_say_what_the_labels_are_drawn_from(basis, rows):
    assert label(basis) == rows


def test_the_distance_to_the_next_keyframe_counts_where_that_was_used():
    assert label("keyframe", from_next=torch.tensor([False, False, True])) == [(True, 0), (False, 1), (False, 1)]


def test_a_lost_frame_has_no_keyframe_whatever_the_network_is():
    maker = RowMaker(size=(4, 6), time_base=Fraction(1, 10), num_classes=2, clock=StageClock(), basis="itself")
    row = maker.lost(FramePlace(index=3, pts=3, keyframe=3, chunk=0, position=None))
    assert (row.is_keyframe, row.keyframe_distance, row.status) == (False, None, "decode_error")
