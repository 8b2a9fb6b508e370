"""How each plot of an evaluation looks, drawn onto matplotlib axes. What is plotted is decided in `plots.py`.

Colours are Okabe and Ito's, which colour-blind people can tell apart; markers differ as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from gsvnet.errors import MissingExtra
from gsvnet.evaluation.plotted import PlottedResult, PlottedRow, by_model

Looks = Mapping[str, tuple[str, str]]  # colour and marker of each model

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#444444", "#56B4E9", "#E69F00")
MARKERS = "osD^vPX"
_GREY = "#666666"
_PALE = "#999999"
_LOG_FROM = 10.0  # ratio of the fastest to the slowest point from which the axis of throughput is logarithmic
_LABEL_GAP = 0.055  # least distance of labels beside each other, in heights of the axes
_BAR_INCHES = 0.17
_FEW = 150  # pairs of frames; up to so many, each has a dot
_CORNERS = np.array([(20, 20), (-20, -20), (-20, 20), (20, -20)])  # of labels around their point, in pixels
_ENOUGH_ROOM = 40  # in pixels, from a label to anything else
STYLE = {
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "svg.fonttype": "none",
    "svg.hashsalt": "gsvnet",
    "font.size": 10,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _PALE,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
}


def draw_throughput(axes: Any, results: Sequence[PlottedResult], looks: Looks) -> None:
    """A curve per model over frames/s, from per-frame labeling at the left to long intervals at the right."""
    for model, group in by_model(results).items():
        colour, marker = looks[model]
        axes.plot(*zip(*map(_point, group)), color=colour, marker=marker, label=model)
    speeds = [_point(result)[0] for result in results]
    axes.margins(0.1)
    if max(speeds) / min(speeds) >= _LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(import_matplotlib("matplotlib.ticker").LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    else:
        axes.set_xlim(left=0)
    _label_points(axes, results, looks)
    device = f", {results[0].device}" if results[0].device else ""
    axes.set(xlabel=f"frames/s (networks alone{device})", ylabel="mIoU, mean over distances (%)")
    _name_series(axes, results[0].data)


def _label_points(axes: Any, results: Sequence[PlottedResult], looks: Looks) -> None:
    """Write the interval beside each point, at that corner which is farthest from other points and labels."""
    points = axes.transData.transform([_point(result) for result in results])
    taken = list(points)
    for result, point in zip(results, points):
        others = np.array([place for place in taken if place is not point] or [(np.inf, np.inf)])
        rooms = [np.abs(others - (point + corner)).max(axis=1).min() for corner in _CORNERS]
        x, y = corner = _CORNERS[int(np.argmax(np.minimum(rooms, _ENOUGH_ROOM)))]
        taken.append(point + corner)
        axes.annotate(
            f"L={result.keyframe_interval}", _point(result), (x / 4, y / 4), textcoords="offset points", fontsize=8,
            color=looks[result.model][0], ha="left" if x > 0 else "right", va="bottom" if y > 0 else "top",
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )  # fmt: skip


def draw_distances(axes: Any, results: Sequence[PlottedResult], looks: Looks) -> None:
    """A curve per result, and the mIoU of holding its keyframe's labels dashed in the same colour."""
    ends = []
    for result in results:
        colour, marker = looks[result.model]
        curves = [(result.model, result.per_distance, {"marker": marker, "markersize": 4.5})]
        if result.held is not None and result.keyframe_interval > 1:
            curves.append((f"hold, {result.model}", result.held, {"linestyle": (0, (4, 2)), "linewidth": 1.2}))
        for name, values, line in curves:
            axes.plot(_as_numbers(values), color=colour, **line)
            ends.append((name, colour, len(values) - 1, _as_numbers(values)[-1]))
    axes.margins(x=0.02, y=0.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    step = "" if results[0].step_ms is None else f" of {results[0].step_ms:.3g} ms"
    axes.set(xlabel=f"distance from the keyframe (frames{step})", ylabel="mIoU (%)", title=results[0].data)
    _label_ends(axes, [end for end in ends if not np.isnan(end[3])])


def _label_ends(axes: Any, ends: Sequence[tuple[str, str, int, float]]) -> None:
    """Name each curve, given as (name, colour, x, y), beside its last point; names that would touch move apart."""
    low, high = axes.get_ylim()
    for x in dict.fromkeys(end[2] for end in ends):
        here = [end for end in ends if end[2] == x]
        heights = _spread([y for _, _, _, y in here], _LABEL_GAP * (high - low))
        for (name, colour, _, _), height in zip(here, heights):
            axes.annotate(
                name, (x, height), (8, 0), textcoords="offset points", color=colour, va="center", annotation_clip=False
            )


def draw_classes(axes: Any, results: Sequence[PlottedResult], looks: Looks) -> None:
    """A bar per class and result, classes by the first result's IoU; a model's second result is paler."""
    first = dict(zip(results[0].per_class, _as_numbers(results[0].per_class.values(), -1.0)))
    names = sorted(first, key=lambda name: -first[name])
    pitch = len(results) + 0.8  # in bars
    axes.figure.set_size_inches(7.0, 0.9 + _BAR_INCHES * pitch * len(names))
    places = np.arange(len(names)) * pitch
    models = [result.model for result in results]
    to_rgb = import_matplotlib("matplotlib.colors").to_rgb
    for row, result in enumerate(results):
        colour = np.array(to_rgb(looks[result.model][0]))
        if result.model in models[:row]:
            colour = (1 + colour) / 2
        label = f"{result.model}, L={result.keyframe_interval}"
        values = [result.per_class[name] for name in names]
        bars = axes.barh(places + row, _as_numbers(values, 0.0), height=0.9, color=colour, label=label)
        texts = ["absent" if value is None else f"{value:.1f}" for value in values]
        axes.bar_label(bars, texts, padding=3, fontsize=7, color=_GREY)
    axes.set_yticks(places + (len(results) - 1) / 2, [name.replace("_", " ") for name in names])
    axes.set(xlim=(0, 100), xlabel="IoU, all distances pooled (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.margins(y=0.01)
    axes.invert_yaxis()
    _name_series(axes, results[0].data)


def draw_consistency(
    figure: Any, rows: Mapping[str, PlottedRow], clips: Mapping[int, str], data: str, step_ms: float | None
) -> None:
    """A panel per clip, given by its number and name: TC of each pair of frames over time, a curve per row.

    rows: by name; "truth" is grey. step_ms: from frame to frame, where known.
    """
    panels = figure.subplots(len(clips), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (clip, name) in zip(panels, clips.items()):
        for (label, row), colour in zip(rows.items(), (*COLOURS, _PALE)):
            values = _as_numbers(row.per_pair[clip])
            times = (1 + np.arange(len(values))) * (1 if step_ms is None else step_ms / 1000)
            pooled = "none" if row.pooled is None else f"{row.pooled:.1f}"
            look = {"color": colour} if label != "truth" else {"color": _PALE, "zorder": 1.9}
            marker = "." if len(values) <= _FEW else None
            axes.plot(times, values, linewidth=1.2, marker=marker, markersize=4, label=f"{label}, TC {pooled}", **look)
        axes.set(ylabel="TC of each pair (%)", title=name)
    axes.set_xlabel("pair of neighbouring frames" if step_ms is None else "time of a pair's later frame (s)")
    axes.set(xlim=(0, None), ylim=(None, min(axes.get_ylim()[1], 100.5)))  # no room for more than 100 %
    _name_series(panels[0], f"{data}\n{panels[0].get_title(loc='left')}")
    figure.tight_layout()


def _name_series(axes: Any, data: str) -> None:
    """Say what is shown: the data above, the series beside the plot, or above too where there is only one."""
    names = axes.get_legend_handles_labels()[1]
    axes.set_title(data if len(names) > 1 else f"{data}: {names[0]}")
    if len(names) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _point(result: PlottedResult) -> tuple[float, float]:
    """(frames/s, mIoU) of a result that has both."""
    assert result.frames_per_s is not None
    assert result.avg_miou is not None
    return result.frames_per_s, result.avg_miou


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places closest to the wanted ones (least squares) that are at least `gap` apart."""
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[float]] = []  # neighbours that touch: what they want of the block's first place
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    places = [float(np.mean(block)) for block in blocks for _ in block]
    return [places[rank] + rank * gap for rank in np.argsort(order)]


def _as_numbers(values: Iterable[float | None], absent: float = np.nan) -> list[float]:
    return [absent if value is None else value for value in values]


def import_matplotlib(name: str) -> ModuleType:
    """A module of matplotlib. Raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra("matplotlib", "evaluate") from error
