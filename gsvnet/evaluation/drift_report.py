"""Drift beside true loss, as tables and as a plot for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gsvnet.evaluation.drawing import COLOURS, MARKERS
from gsvnet.evaluation.drift import DriftResult
from gsvnet.evaluation.plots import save_figure

_SIGNS = {
    "places": "places",
    "classes": "classes",
    "places_of_same_frame": "places*",
    "classes_of_same_frame": "classes*",
}
_LOSSES = {
    "error_of_places": "pixel error",
    "error_of_classes": "100 - mIoU",
    "loss_of_places": "accuracy lost",
    "loss_of_classes": "mIoU lost",
    "mean_loss_of_places": "mean accuracy lost",
    "mean_loss_of_classes": "mean mIoU lost",
}
_PANELS = (("places", "loss_of_places"), ("classes", "loss_of_classes"), ("classes", "error_of_classes"))
_AXES = {
    "places": "drift of places (%)",
    "classes": "drift of classes (%)",
    "loss_of_places": "accuracy lost (points)",
    "loss_of_classes": "mIoU lost (points)",
    "error_of_classes": "100 - mIoU (points)",
}


def show_drift(result: DriftResult, console: Console) -> None:
    """Print how alike drift and truth order chunks: rank correlations, of all chunks and of chunks apart."""
    drawn_on = "the keyframe before" if result.references == "before" else "keyframes on both sides"
    console.print(
        f"{result.dataset} {result.split}: {len(result.chunks)} chunks of {result.keyframe_interval} frames, frames "
        f"draw on {drawn_on}; rank correlation of drift with what truth says of the farthest frame and, mean, of all. "
        "places: 1 - drift_agreement; classes: 1 - mean of drift_iou; *: drift at the farthest frame itself, were it a "
        "keyframe too"
    )
    console.print(_tabulate(result.correlations()))
    apart = result.correlations_apart()
    if apart:
        console.print("chunks that do not overlap, mean over the ways to cut the clips:")
        console.print(_tabulate(apart))
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)


def plot_drift(result: DriftResult, folder: Path) -> tuple[Path, ...]:
    """drift.png and .svg in `folder`, which is made if needed: a point per chunk, true loss over drift.

    Raises MissingExtra without matplotlib and ConfigError for a folder that cannot be made.
    """

    def draw(figure: Any) -> None:
        for axes, (sign, loss) in zip(figure.subplots(1, len(_PANELS)), _PANELS):
            _draw_chunks(axes, result, sign, loss)
        figure.tight_layout()

    return save_figure(folder, "drift", draw, size=(11.0, 3.8))


def _draw_chunks(axes: Any, result: DriftResult, sign: str, loss: str) -> None:
    """A point per chunk, a colour per clip."""
    signs, losses = result.columns()
    clips = list(dict.fromkeys(chunk.clip for chunk in result.chunks))
    for number, clip in enumerate(clips):
        rows = [chunk.clip == clip for chunk in result.chunks]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.scatter(signs[sign][rows], losses[loss][rows], s=14, color=colour, marker=marker, alpha=0.7, label=clip)
    correlation = result.correlations()[sign][loss]
    axes.set(xlabel=_AXES[sign], ylabel=_AXES[loss], title=f"L={result.keyframe_interval}: {correlation:.2f}")
    if len(clips) > 1 and axes.get_subplotspec().is_first_col():
        axes.legend(fontsize=6)


def _tabulate(correlations: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table()
    table.add_column("")
    for name in _LOSSES.values():
        table.add_column(name, justify="right")
    for sign, row in correlations.items():
        table.add_row(_SIGNS[sign], *(f"{row[loss]:.2f}" for loss in _LOSSES))
    return table
