from __future__ import annotations

import json

import numpy as np
import pytest

from gsvnet.classes import ClassSet
from gsvnet.store.timeline import Timeline
from gsvnet.viewing.charts import MAX_KEYFRAMES, HoverPicture, draw_timeline
from gsvnet.viewing.spans import Span

CLASSES = ClassSet(name="two", names=("a", "<b>"), colours=((1, 2, 3), (255, 0, 128)))


def make_timeline(num: int = 4, **changes) -> Timeline:
    shares = np.tile(np.array([[0.25, 0.5]], np.float32), (num, 1))
    usual = {
        "video": "v",
        "start_s": np.arange(num, dtype=float),
        "end_s": np.arange(num) + 1.0,
        "first_frame": np.arange(num) * 10,
        "last_frame": np.arange(num) * 10 + 9,
        "num_frames": np.full(num, 10),
        "num_lost": np.zeros(num, int),
        "confidence": np.full(num, 0.9),
        "confidence_p05": np.full(num, 0.6),
        "confidence_min": np.full(num, 0.8),
        "shares": shares,
        "labeled_frame": np.arange(num) * 10,
        "least_confident": np.arange(num) * 10,
        "keyframe_s": np.arange(num, dtype=float),
        "num_keyframes": num,
        "lost_runs": (),
    }
    return Timeline(**usual | changes)


def drawn(timeline: Timeline, spans=(), **options):
    """The figures of the timeline, as Bokeh reads them back."""
    from bokeh.document import Document

    item = json.loads(json.dumps(draw_timeline(timeline, CLASSES, spans, frame_s=0.1, **options)))
    (root,) = Document.from_json(item["doc"]).roots
    return root.children


def columns(figure, glyph: str, at: int = 0) -> dict[str, list]:
    source = [r for r in figure.renderers if type(r.glyph).__name__ == glyph][at].data_source
    return {name: list(values) for name, values in source.data.items()}


def test_areas_are_shares_in_the_classes_colours_over_time():
    areas = drawn(make_timeline())[0]
    data = columns(areas, "VArea")
    assert data["x"] == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]
    assert data["c1"] == [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0]
    colours = [r.glyph.fill_color for r in areas.renderers if type(r.glyph).__name__ == "VArea"]
    assert colours == ["#010203", "#ff0080"]


def test_areas_and_lines_stop_at_gaps_and_lost_frames():
    shares = make_timeline().shares.copy()
    shares[1] = np.nan
    areas, confidence = drawn(make_timeline(shares=shares, confidence=np.array([0.9, np.nan, 0.9, 0.9])))
    assert columns(areas, "VArea")["c1"] == [0, 0.5, 0.5, 0.5, 0, 0, 0.5, 0.5, 0.5, 0.5, 0]
    starts, first = np.array([0.0, 1.0, 5.0, 6.0]), np.array([0, 10, 50, 60])
    confidence = drawn(make_timeline(start_s=starts, end_s=starts + 1, first_frame=first, last_frame=first + 9))[1]
    np.testing.assert_allclose(columns(confidence, "Line")["mean"], [0.9, 0.9, np.nan, 0.9, 0.9], rtol=1e-6)


def test_all_figures_share_one_axis_that_holds_the_spans_too():
    span = Span(kind="failed", start_s=4.0, end_s=9.0, text="shard 000001 failed")
    first, second = drawn(make_timeline(), [span])
    assert first.x_range is second.x_range
    assert (first.x_range.start, first.x_range.end) == (0, 9)
    assert columns(first, "Quad")["left"] == [4.0]


def test_hovering_tells_time_frames_classes_trouble_and_the_picture():
    span = Span(kind="gap", start_s=4.0, end_s=9.0, text="no labels")
    pictures = [HoverPicture(name=f"0-{i // 2}", frame_index=i) for i in range(4)]
    data = columns(drawn(make_timeline(num_lost=np.array([0, 2, 0, 0])), [span], pictures=pictures)[0], "Quad", 1)
    assert data["frames"] == ["0 to 9", "10 to 19", "20 to 29", "30 to 39", "none"]
    assert data["time"][1] == "0:01.0"
    assert data["classes"][0].replace("\u00a0", " ") == "<b> 50 %, a 25 %"
    assert data["trouble"] == ["", "2 lost", "", "", "no labels"]
    assert data["picture"] == ["0-0", "0-0", "0-1", "0-1", "none"]


def test_areas_go_on_where_frames_stay_on_for_long():
    starts = np.array([0.0, 1.0, 21.0, 41.0])
    data = columns(drawn(make_timeline(start_s=starts, end_s=np.array([1.0, 2.0, 22.0, 42.0])))[0], "VArea")
    assert data["c1"] == [0, *[0.5] * 6, 0]


def test_many_spans_are_merged_and_take_little_room():
    def item_bytes(num_spans: int) -> int:
        spans = [Span(kind="failed", start_s=2.0 * i, end_s=2.0 * i + 1, text="x" * 100) for i in range(num_spans)]
        return len(json.dumps(draw_timeline(make_timeline(), CLASSES, spans, frame_s=0.1, max_spans=100)))

    assert item_bytes(5000) - item_bytes(0) < 40_000


def test_hovering_over_merged_spans_tells_how_many():
    spans = [Span(kind="gap", start_s=10.0 + i, end_s=11.0 + i, text=f"shard {i}") for i in range(3)]
    data = columns(drawn(make_timeline(), spans)[0], "Quad", 1)
    assert (data["trouble"][-1], data["left"][-1], data["right"][-1]) == ("shard 0; and 2 more", 10.0, 13.0)


def test_dense_keyframes_are_thinned():
    ticks = columns(drawn(make_timeline(500))[0], "Segment")
    assert len(ticks["x0"]) == 100 <= MAX_KEYFRAMES


@pytest.mark.parametrize("num", [1, 4])
def test_drift_has_a_figure_only_where_there_is_some(num):
    assert len(drawn(make_timeline(num))) == 2
    with_drift = drawn(make_timeline(num, drift=np.full(num, 0.1), drift_max=np.full(num, 0.3)))
    np.testing.assert_allclose(columns(with_drift[2], "Line")["mean"], [0.1] * num, rtol=1e-6)
    assert columns(with_drift[2], "Quad")["drift"] == ["0.100"] * num


def test_a_video_of_lost_frames_and_one_of_a_single_frame_are_drawn():
    nothing = np.full(2, np.nan)
    lost = make_timeline(
        2, shares=np.full((2, 2), np.nan), confidence=nothing, confidence_p05=nothing, confidence_min=nothing
    )
    assert len(drawn(lost)) == 2
    item = draw_timeline(make_timeline(1, end_s=np.zeros(1)), CLASSES, [], frame_s=0.0)
    assert item["root_id"]


def test_the_viewer_gets_a_cursor_in_each_figure():
    figures = drawn(make_timeline(), cursor=True)
    assert [len(list(figure.select({"name": "now"}))) for figure in figures] == [1, 1]
