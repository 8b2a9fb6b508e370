"""A video's timeline as Bokeh figures, for the report and the viewer: class areas, confidence, keyframes, trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import (
    AdaptiveTicker,
    BasicTicker,
    ColumnDataSource,
    CrosshairTool,
    HoverTool,
    NoOverlap,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.models.annotations import Span as Line
from bokeh.plotting import figure

from gsvnet.classes import ClassSet
from gsvnet.store.timeline import MAX_BINS, Timeline
from gsvnet.viewing.spans import Span, thin_spans
from gsvnet.viewing.words import clock, main_classes_in_words

MAX_KEYFRAMES = 120
_INK, _QUIET, _GRID, _LINE = "#1d2733", "#66717f", "#e4e8ec", "#1f6feb"
_DRIFT = "#8250df"
_TROUBLE = {"lost": "#d1242f", "damaged": "#e5a11b", "failed": "#d1242f", "gap": "#e5747c"}
_HATCH: dict[str, Any] = {"lost": "blank", "damaged": "blank", "failed": "diagonal_cross", "gap": "right_diagonal_line"}
_FONT = "system-ui, sans-serif"
_LANE = 0.1  # of the areas' height, below them: keyframe ticks
_BORDER_PX = 52
_USUAL_FRAME_S = 0.04


@dataclass(frozen=True, kw_only=True)
class HoverPicture:
    """A picture that hovering shows: the page's CSS variable --picture-NAME, and the frame that it is of."""

    name: str
    frame_index: int


def draw_timeline(
    timeline: Timeline,
    classes: ClassSet,
    spans: Sequence[Span],
    *,
    frame_s: float,
    pictures: Sequence[HoverPicture] = (),
    aspect: str = "16 / 9",
    max_spans: int = MAX_BINS,
    cursor: bool = False,
) -> Mapping[str, Any]:
    """What `Bokeh.embed.embed_item` draws: figures one below the other with one time axis, in seconds.

    spans: drawn in red, merged to about `max_spans`. pictures: per bin the one that hovering shows; aspect: their
    width / height. cursor: with a line named "now" in each figure, at first out of sight.
    """
    if frame_s <= 0:  # one frame: as long as a frame of usual video
        timeline = replace(timeline, end_s=timeline.start_s + _USUAL_FRAME_S)
    start, end = _time_range(timeline, spans)
    times = Range1d(start=start, end=end, bounds="auto")
    rows = [_draw_areas(timeline, classes, times), _draw_confidence(timeline, times)]
    has_drift = timeline.drift is not None
    if has_drift:
        rows.append(_draw_drift(timeline, times))
    spans = thin_spans(spans, end - start, max_spans)
    troubles = _trouble_source(spans)
    hovered = ColumnDataSource(_hover_columns(timeline, classes, spans, pictures))
    crosshair = Line(dimension="height", line_color=_INK, line_alpha=0.5, line_width=1)
    for number, row in enumerate(rows):
        if spans:
            _add_trouble(row, troubles)
        _add_hover(row, hovered, tooltip=_tooltip(aspect if pictures else None, has_drift=has_drift))
        row.add_tools(CrosshairTool(overlay=crosshair))
        row.xaxis.visible = number == len(rows) - 1
        if cursor:
            row.add_layout(Line(dimension="height", name="now", line_color="#000", line_width=2, location=-1e9))
            row.subscribed_events = {"tap"}
    return json_item(column(rows, sizing_mode="stretch_width", spacing=0))


def _time_range(timeline: Timeline, spans: Sequence[Span]) -> tuple[float, float]:
    start = min([float(timeline.start_s[0]), *(span.start_s for span in spans)])
    end = max([float(timeline.end_s[-1]), *(span.end_s for span in spans)])
    return start, end


def _new_figure(times: Range1d, height_px: int, low: float, high: float, title: str) -> figure:
    row = figure(
        height=height_px,
        sizing_mode="stretch_width",
        x_range=times,
        y_range=Range1d(start=low, end=high),
        tools="",
        toolbar_location=None,
        min_border_left=_BORDER_PX,
        min_border_right=12,
        min_border_top=6,
        min_border_bottom=4,
        outline_line_color=None,
        background_fill_alpha=0,
        border_fill_alpha=0,
        output_backend="canvas",
    )
    row.xaxis.ticker = AdaptiveTicker(base=60, mantissas=[1, 2, 5, 10, 15, 20, 30], min_interval=1)
    row.xaxis.formatter = NumeralTickFormatter(format="00:00:00")
    row.xaxis.major_label_policy = NoOverlap(min_distance=12)
    row.yaxis.axis_label = title
    row.xgrid.grid_line_color = row.ygrid.grid_line_color = _GRID
    row.axis.axis_line_color = row.axis.major_tick_line_color = "#b6bec8"
    row.axis.minor_tick_line_color = None
    row.axis.major_label_text_color = row.axis.axis_label_text_color = _QUIET
    row.axis.major_label_text_font = row.axis.axis_label_text_font = _FONT
    row.axis.major_label_text_font_size = row.axis.axis_label_text_font_size = "11px"
    row.axis.axis_label_text_font_style = "normal"
    return row


def _draw_areas(timeline: Timeline, classes: ClassSet, times: Range1d) -> figure:
    row = _new_figure(times, 170, -_LANE, 1, "share of pixels")
    row.yaxis.ticker, row.yaxis.formatter = [0, 0.5, 1], NumeralTickFormatter(format="0%")
    x, shares = _area_points(timeline)
    seen = [label for label in range(len(classes)) if shares[:, label].any()]
    columns = {f"c{label}": shares[:, label].astype(np.float32) for label in seen}
    if seen:
        row.varea_stack(
            list(columns),
            x="x",
            color=[classes.hex_colours[label] for label in seen],
            source=ColumnDataSource({"x": x.astype(np.float32), **columns}),
        )
    step = -(-len(timeline.keyframe_s) // MAX_KEYFRAMES) or 1
    ticks = timeline.keyframe_s[::step].astype(np.float32)
    row.segment(x0=ticks, x1=ticks, y0=-0.75 * _LANE, y1=-0.25 * _LANE, line_color=_INK, line_width=1)
    return row


def _runs(first_frame: np.ndarray, last_frame: np.ndarray) -> list[tuple[int, int]]:
    """[first, stop) of bins that follow each other without a gap; frames tell, as a frame may stay on for long."""
    breaks = np.flatnonzero(first_frame[1:] > last_frame[:-1] + 1) + 1
    return list(pairwise([0, *breaks.tolist(), len(first_frame)]))


def _area_points(timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """x (P,) in seconds and shares (P, C): bin centres, zero over lost frames and where there are no rows."""
    known = ~np.isnan(timeline.shares).any(axis=1)
    starts, ends, shares = timeline.start_s[known], timeline.end_s[known], timeline.shares[known]
    if not len(starts):
        return np.zeros(0), shares
    centres, nothing = (starts + ends) / 2, np.zeros_like(shares[:1])
    x, y = [], []
    for first, stop in _runs(timeline.first_frame[known], timeline.last_frame[known]):
        x.append(np.r_[starts[first], starts[first], centres[first:stop], ends[stop - 1], ends[stop - 1]])
        y += [nothing, shares[first : first + 1], shares[first:stop], shares[stop - 1 : stop], nothing]
    return np.concatenate(x), np.concatenate(y)


def _line_source(timeline: Timeline, **values: np.ndarray) -> ColumnDataSource:
    """Column x, the bins' centres, and the values there; NaN between bins that do not follow each other."""
    gaps = [first for first, _ in _runs(timeline.first_frame, timeline.last_frame)[1:]]
    columns = {"x": (timeline.start_s + timeline.end_s) / 2, **values}
    return ColumnDataSource({name: np.insert(v, gaps, np.nan).astype(np.float32) for name, v in columns.items()})


def _draw_confidence(timeline: Timeline, times: Range1d) -> figure:
    lowest = np.nanmin(np.concatenate([timeline.confidence_min, timeline.confidence_p05, [0.9]]))
    row = _new_figure(times, 110, max(0.0, np.floor(10 * lowest - 0.3) / 10), 1, "confidence")
    row.yaxis.ticker = BasicTicker(desired_num_ticks=3)
    source = _line_source(timeline, mean=timeline.confidence, p05=timeline.confidence_p05, low=timeline.confidence_min)
    row.varea("x", "low", "mean", source=source, fill_color=_LINE, fill_alpha=0.2)
    row.line("x", "p05", source=source, line_color="#8a94a0", line_width=1.25, line_dash=[4, 3])
    row.line("x", "mean", source=source, line_color=_LINE, line_width=1.75)
    return row


def _draw_drift(timeline: Timeline, times: Range1d) -> figure:
    assert timeline.drift is not None
    assert timeline.drift_max is not None
    highest = np.nanmax(np.append(timeline.drift_max, 0.05))
    row = _new_figure(times, 90, 0, min(1.0, np.ceil(20 * highest) / 20), "drift")
    row.yaxis.ticker = BasicTicker(desired_num_ticks=3)
    source = _line_source(timeline, zero=0 * timeline.drift, mean=timeline.drift, high=timeline.drift_max)
    row.varea("x", "zero", "high", source=source, fill_color=_DRIFT, fill_alpha=0.2)
    row.line("x", "mean", source=source, line_color=_DRIFT, line_width=1.75)
    return row


def _trouble_source(spans: Sequence[Span]) -> ColumnDataSource:
    """One row per span, for the red bands of all figures."""
    return ColumnDataSource(
        {
            "left": np.array([span.start_s for span in spans], np.float32),
            "right": np.array([span.end_s for span in spans], np.float32),
            "colour": [_TROUBLE[span.kind] for span in spans],
            "hatch": [_HATCH[span.kind] for span in spans],
        }
    )


def _add_trouble(row: figure, troubles: ColumnDataSource) -> None:
    """A red band per span, at least a pixel wide."""
    low, high = _heights(row)
    row.quad(
        "left",
        "right",
        high,
        low,
        source=troubles,
        fill_color="colour",
        fill_alpha=0.35,
        line_color="colour",
        line_alpha=0.8,
        hatch_pattern="hatch",
        hatch_color="colour",
        hatch_alpha=0.7,
        hatch_scale=8,
    )


def _hover_columns(
    timeline: Timeline, classes: ClassSet, spans: Sequence[Span], pictures: Sequence[HoverPicture]
) -> dict[str, Any]:
    """One row per bin: its edges, and what hovering over it says. Bins without a row are told by their span's row."""
    frames = [f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in zip(timeline.first_frame, timeline.last_frame)]
    lost = [f"{n:,} lost" if n else "" for n in timeline.num_lost]
    words = ["" if np.isnan(s).any() else main_classes_in_words(s, classes, 4) for s in timeline.shares]
    sure = ["none" if np.isnan(c) else f"{c:.2f}" for c in timeline.confidence]
    columns: dict[str, Any] = {
        "left": timeline.start_s.astype(np.float32).tolist(),
        "right": timeline.end_s.astype(np.float32).tolist(),
        "time": [clock(t) for t in timeline.start_s],
        "frames": frames,
        "confidence": sure,
        "classes": words,
        "trouble": lost,
    }
    if timeline.drift is not None:
        columns["drift"] = ["not measured" if np.isnan(d) else f"{d:.3f}" for d in timeline.drift]
    if pictures:
        columns["picture"] = [picture.name for picture in pictures]
        columns["pictured"] = [f"{picture.frame_index:,}" for picture in pictures]
    holes = [span for span in spans if span.kind not in ("lost", "damaged")]
    nothing: dict[str, Any] = {
        "frames": "none",
        "confidence": "none",
        "drift": "none",
        "classes": "",
        "picture": "none",
        "pictured": "none",
    }
    for span in holes:
        own = {
            "left": round(span.start_s, 2),
            "right": round(span.end_s, 2),
            "time": clock(span.start_s),
            "trouble": span.text if span.num == 1 else f"{span.text}; and {span.num - 1:,} more",
        }
        for name, values in columns.items():
            values.append((nothing | own)[name])
    return columns


def _add_hover(row: figure, hovered: ColumnDataSource, tooltip: str) -> None:
    low, high = _heights(row)
    bars = row.quad(
        "left",
        "right",
        high,
        low,
        source=hovered,
        fill_alpha=0,
        line_alpha=0,
        hover_fill_color=_INK,
        hover_fill_alpha=0.08,
        hover_line_alpha=0,
    )
    row.add_tools(HoverTool(renderers=[bars], mode="vline", tooltips=tooltip, point_policy="follow_mouse"))


def _heights(row: figure) -> tuple[Any, Any]:
    assert isinstance(row.y_range, Range1d)
    return row.y_range.start, row.y_range.end


def _tooltip(aspect: str | None, *, has_drift: bool) -> str:
    """HTML of the hover box, with a picture where `aspect` is given; Bokeh escapes what it puts in for @names."""
    width = "width:min(240px, 38vw)"  # beside the pointer, in a narrow window too
    picture = (
        f'<div style="{width};aspect-ratio:{aspect};border-radius:4px;'
        'background:var(--picture-@picture) center/contain no-repeat #eef1f4"></div>'
        f'<div style="color:{_QUIET};margin-bottom:4px">nearest picture: frame @pictured</div>'
    )
    return (
        f'<div style="max-{width};font:12px/1.45 {_FONT};color:{_INK}">{picture if aspect else ""}'
        f'<div><b>@time</b> <span style="color:{_QUIET}">frame @frames</span></div>'
        "<div>@classes</div>"
        f'<div style="color:{_QUIET}">confidence @confidence{", drift @drift" if has_drift else ""}</div>'
        '<div style="color:#b3202a">@trouble</div></div>'
    )
