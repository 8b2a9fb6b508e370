"""An evaluation as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from gsvnet.evaluation.protocol import EvaluationResult


def show_result(result: EvaluationResult, console: Console) -> None:
    """Print mIoU by distance (with the hold baseline where there is one) and IoU by class, in percent."""
    figures = result.to_dict()
    console.print(f"CamVid {result.split}, {result.num_frames} frames, mIoU in percent by distance from the keyframe")
    by_distance = Table()
    by_distance.add_column("distance")
    for distance in range(len(result.distances)):
        by_distance.add_column(str(distance), justify="right")
    by_distance.add_row("model", *map(_figure, figures["per_distance"]))
    if "hold" in figures:
        by_distance.add_row("hold the keyframe's labels", *map(_figure, figures["hold"]["per_distance"]))
    console.print(by_distance)
    console.print("IoU in percent by class, all distances pooled")
    by_class = Table()
    by_class.add_column("class")
    by_class.add_column("IoU", justify="right")
    for name, value in figures["per_class"].items():
        by_class.add_row(name, _figure(value))
    console.print(by_class)
    summary = " · ".join(f"{name} {_figure(figures[name])}" for name in ("avg_miou", "avg_miou_pooled", "min_miou"))
    console.print(summary)
    for note in result.notes:
        console.print(f"note: {note}")


def _figure(percent: float | None) -> str:
    return "absent" if percent is None else f"{percent:.1f}"
