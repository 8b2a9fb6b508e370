"""What was measured, as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from gsvnet.evaluation.clip_consistency import ComparedConsistency
from gsvnet.evaluation.cost import Cost
from gsvnet.evaluation.protocol import EvaluationResult, percent

_SUMMARY = {
    "avg_miou": "mean over distances",
    "avg_miou_pooled": "all distances pooled",
    "min_miou": "farthest",
    "drop": "drop from per frame to the mean",
}


def show_result(result: EvaluationResult, console: Console) -> None:
    """Print mIoU by distance (with the hold baseline where there is one) or sub-network, IoU by class; in percent."""
    figures = result.to_dict()
    step = f", {result.step_ms:.1f} ms per frame" if result.step_ms else ""
    console.print(f"{result.dataset} {result.split}: {result.num_frames} scored frames{step}; mIoU and IoU in percent")
    if result.turns is None:
        console.print(_by_distance(result, figures))
        for key, meaning in _SUMMARY.items():
            console.print(f"{key} {_figure(figures[key])} ({meaning})")
    else:
        console.print(_by_turn(figures))
    console.print(_by_class(result))
    for name in figures["labeled_but_absent"]:
        console.print(
            f"note: {name} was labeled but is not in the truth; its pixels miss their true classes", soft_wrap=True
        )
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)


def show_consistency(consistency: ComparedConsistency, console: Console) -> None:
    """Print the temporal consistency of the model's labels and, beside it, of per-frame labels and the truth."""
    result = consistency.model
    console.print(
        f"temporal consistency (TC) in percent, {result.num_pairs} pairs of frames; {result.note}", soft_wrap=True
    )
    table = Table()
    table.add_column("labels")
    table.add_column("TC", justify="right")
    table.add_column("pixels compared", justify="right")
    if consistency.mious:
        table.add_column("mIoU", justify="right")
    rows, names = consistency.rows, {"model": "every frame"}
    if consistency.model is consistency.per_frame:
        del rows["per_frame"]
    else:
        names = {"model": f"keyframe every {consistency.keyframe_interval} frames", "per_frame": "per frame"}
    for name, row in rows.items():
        miou = f"{consistency.mious[name]:.1f}" if name in consistency.mious else ""
        figures = (f"{row.miou:.1f}", f"{100 * row.valid_share:.1f} %", *([miou] if consistency.mious else []))
        table.add_row(names.get(name, name), *figures)
    console.print(table)


def show_cost(cost: Cost, console: Console) -> None:
    """Print size and work of a network: megabytes, and multiply-accumulates (MAC) in billions."""
    (height, width), (key_height, key_width) = cost.size, cost.keyframe_size
    grid = "" if cost.grid is None else f", other frames at {cost.grid[1]}x{cost.grid[0]}"
    console.print(f"cost of a video {width}x{height}: keyframes read at {key_width}x{key_height}{grid}")
    table = Table()
    for name in ("", "MB", "GMAC", "GMAC as published"):
        table.add_column(name, justify="right" if name else "left")
    if cost.tile_macs:
        table.add_column("GMAC with tiles", justify="right")
    keyframe, frame = cost.keyframe_parameters_bytes, cost.propagation_parameters_bytes
    for name, num_bytes, *macs in (
        ("keyframe", keyframe, cost.keyframe_macs, cost.published_keyframe_macs, cost.keyframe_macs),
        ("other frame", frame, cost.frame_macs, cost.published_frame_macs, cost.computed_frame_macs),
        (
            f"mean at L={cost.keyframe_interval}",
            keyframe + frame,
            cost.average_macs,
            cost.published_average_macs,
            cost.computed_average_macs,
        ),
    ):
        shown = macs if cost.tile_macs else macs[:2]
        table.add_row(name, f"{num_bytes / 1e6:.2f}", *(f"{figure / 1e9:.2f}" for figure in shown))
    console.print(table)
    if cost.frame_macs != cost.keyframe_macs:
        console.print(f"{100 * cost.per_frame_share:.1f} % of the GMAC of the keyframe network on every frame")


def _by_distance(result: EvaluationResult, figures: dict) -> Table:
    """A row for every distance from the keyframe."""
    table = Table()
    table.add_column("distance", justify="right")
    columns = [figures["per_distance"]]
    if result.step_ms:
        table.add_column("ms", justify="right")
    table.add_column("mIoU", justify="right")
    if "hold" in figures:
        table.add_column("hold the keyframe's labels", justify="right")
        columns.append(figures["hold"]["per_distance"])
    for distance, values in enumerate(zip(*columns)):
        time = [f"{distance * result.step_ms:.0f}"] if result.step_ms else []
        table.add_row(str(distance), *time, *map(_figure, values))
    return table


def _by_turn(figures: dict) -> Table:
    """A row for the frames of each sub-network, and one for all frames."""
    table = Table()
    for name in ("frames at the turn of", "mIoU"):
        table.add_column(name, justify="right" if name == "mIoU" else "left")
    for turn, miou in enumerate(figures["per_sub_network"]):
        table.add_row(f"sub-network {turn}", _figure(miou))
    table.add_row("all", _figure(figures["avg_miou"]))
    return table


def _by_class(result: EvaluationResult) -> Table:
    """A row for every class: at distance 0, over all distances, and at the farthest."""
    table = Table()
    table.add_column("class")
    matrices = [result.distances[0]]
    table.add_column("per frame", justify="right")
    if len(result.distances) > 1:
        matrices += [result.pooled, result.distances[-1]]
        table.add_column("pooled", justify="right")
        table.add_column(f"distance {len(result.distances) - 1}", justify="right")
    for name, *values in zip(result.classes.names, *(matrix.iou().tolist() for matrix in matrices)):
        table.add_row(name, *(_figure(percent(value)) for value in values))
    return table


def _figure(percent: float | None) -> str:
    return "absent" if percent is None else f"{percent:.1f}"
