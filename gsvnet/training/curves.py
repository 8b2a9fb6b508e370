"""Curves of a training: loss, held-out mIoU and learning rate, drawn from the records of its log."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gsvnet.errors import MissingExtra
from gsvnet.training.progress import Unit

_LEAST_TO_SMOOTH = 10
_RAW, _SMOOTH, _SCORE, _RATE = "#a9bfd6", "#1f4e79", "#2e7d32", "#777777"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Records of `folder`/log.jsonl, oldest first."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def smooth(values: np.ndarray, reach: int) -> np.ndarray:
    """(N,) means of each of N values and its neighbours, up to `reach` before it and as many after it.

    Without the lag of a running mean. Windows are smaller near the start, where losses fall steeply, and cut off at
    the end.
    """
    reaches = (min(i // 2, reach) for i in range(len(values)))
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reaches)])


def draw_curves(records: list[dict[str, Any]], path: Path, *, unit: Unit, title: str) -> None:
    """Write one PNG: loss, raw and smoothed; held-out mIoU and learning rate below where records have them.

    records: `unit`, loss, and perhaps held_out_miou (0..1) and learning_rate. The file is the old or the new one at
    any moment.
    """
    scored = [r for r in records if r.get("held_out_miou") is not None]
    rated = [r for r in records if r.get("learning_rate") is not None]
    heights = [3.0] + [2.0] * bool(scored) + [0.9] * bool(rated)
    figure = load_matplotlib("figure").Figure(figsize=(8, 1.4 + 1.05 * sum(heights)), dpi=110, layout="constrained")
    axes = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    _draw_loss(axes[0], records, unit)
    axes[0].set_title(title, loc="left", fontsize=11)
    if scored:
        _draw_score(axes[1], scored, unit)
    if rated:
        _draw_rate(axes[-1], rated, unit)
    for axis in axes:
        _tidy(axis)
    axes[-1].set(xlabel=unit, xlim=(0, 1.02 * records[-1][unit]))
    figure.align_ylabels(axes)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, the old file or the new one at any moment, so that a viewer never reads half."""
    unfinished = path.with_name(f".{path.name}")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)


def load_matplotlib(part: str) -> ModuleType:
    """matplotlib's module `part`; figures are made without pyplot, so they need no display and nobody keeps them."""
    try:
        return importlib.import_module(f"matplotlib.{part}")
    except ImportError as error:
        raise MissingExtra("matplotlib", "train") from error


def _draw_loss(axis: Any, records: list[dict[str, Any]], unit: Unit) -> None:
    positions = [r[unit] for r in records]
    losses = np.array([r["loss"] for r in records], float)
    reach = max(1, len(losses) // 15)
    axis.plot(positions, losses, color=_RAW, linewidth=1, marker="o" if len(losses) == 1 else None, label="as logged")
    if len(losses) >= _LEAST_TO_SMOOTH:
        axis.plot(positions, smooth(losses, reach), color=_SMOOTH, linewidth=1.8, label=f"mean of {2 * reach + 1}")
    axis.set_ylabel("loss")
    positive = losses[np.isfinite(losses) & (losses > 0)]
    if len(positive) and positive.max() > 5 * positive.min():
        _use_log_scale(axis)
    axis.legend(frameon=False, fontsize=9)


def _use_log_scale(axis: Any) -> None:
    ticker = load_matplotlib("ticker")
    axis.set_yscale("log", nonpositive="mask")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(ticker.NullLocator())
    axis.set_ylabel("loss (log scale)")


def _draw_score(axis: Any, scored: list[dict[str, Any]], unit: Unit) -> None:
    positions, scores = [r[unit] for r in scored], 100 * np.array([r["held_out_miou"] for r in scored], float)
    axis.plot(positions, scores, color=_SCORE, linewidth=1.5, marker="o" if len(scores) < 30 else None, markersize=3)
    axis.set_ylabel("held-out mIoU (%)")
    if np.isfinite(scores).any():
        best = int(np.nanargmax(scores))
        axis.plot(positions[best], scores[best], "o", color=_SCORE, markersize=6)
        text = f"best {scores[best]:.1f} at {unit} {positions[best]}"
        axis.set_title(text, loc="right", fontsize=9, color=_SCORE)


def _draw_rate(axis: Any, rated: list[dict[str, Any]], unit: Unit) -> None:
    rates = [r["learning_rate"] for r in rated]
    axis.plot([r[unit] for r in rated], rates, color=_RATE, linewidth=1.2, marker="o" if len(rates) == 1 else None)
    axis.set(ylabel="learning rate", ylim=(0, 1.15 * max(*rates, 1e-12)))
    axis.ticklabel_format(axis="y", scilimits=(0, 0))


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(load_matplotlib("ticker").MaxNLocator(integer=True))
