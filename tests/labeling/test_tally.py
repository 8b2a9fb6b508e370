from __future__ import annotations

from gsvnet.labeling.tally import Tally
from gsvnet.labeling.tasks import DriftFigures
from gsvnet.store.schema import FrameRow


def row(index, agreement=None):
    """A row of which only what a tally looks at is real."""
    return FrameRow(
        frame_index=index,
        pts=index,
        time_s=index / 10,
        is_keyframe=agreement is not None,
        keyframe_distance=None,
        height=2,
        width=2,
        pixels=[4],
        mask=b"",
        drift_agreement=agreement,
        drift_iou=None if agreement is None else [agreement],
    )


def tally_of(*rows, min_agreement=None):
    tally = Tally(video_id="v", min_agreement=min_agreement)
    for one in rows:
        tally.add(one)
    return tally.drift


def test_the_chunk_that_agrees_least_is_known_by_its_place():
    drift = tally_of(row(0, 0.75), row(1), row(4, 0.5), row(8, 0.5), row(12, 1.0))
    assert (drift.num_chunks, drift.agreement, drift.least) == (4, 0.6875, 0.5)
    assert (drift.least_video, drift.least_frame, drift.least_s) == ("v", 4, 0.4)


def test_chunks_below_a_target_are_counted_where_there_is_one():
    rows = row(0, 0.75), row(4, 0.5), row(8, 1.0)
    assert tally_of(*rows).num_below == 0
    assert (tally_of(*rows, min_agreement=0.75).num_below, tally_of(*rows, min_agreement=0.8).num_below) == (1, 2)


def test_without_measured_chunks_there_is_nothing_to_tell():
    drift = tally_of(row(0), row(1))
    assert drift == DriftFigures()
    assert (drift.agreement, drift.below_share) == (None, 0.0)


def test_figures_of_shards_add_up_in_any_order():
    one, other = tally_of(row(0, 0.5), min_agreement=0.6), tally_of(row(4, 0.25), row(8, 0.75), min_agreement=0.6)
    both = one + other
    assert both == other + one == one + DriftFigures() + other
    assert (both.num_chunks, both.sum_agreement, both.least_frame, both.num_below) == (3, 1.5, 4, 2)
