"""Plots of evaluations, each as PNG and SVG: accuracy against throughput and distance, consistency, IoU by class.

Input is a list of results as `gsvnet evaluate --json` writes them. The same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsvnet.errors import ConfigError
from gsvnet.evaluation.drawing import (
    COLOURS,
    MARKERS,
    STYLE,
    Looks,
    draw_classes,
    draw_consistency,
    draw_distances,
    draw_throughput,
    import_matplotlib,
)
from gsvnet.evaluation.plotted import PlottedResult, PlottedRow, by_model, check_alike, name_rows, read_results

Results = Sequence[Mapping[str, Any]]
Draw = Callable[[Any, Sequence[PlottedResult], Looks], None]  # onto matplotlib axes

_MOST_CLIPS = 8  # with a panel each


def write_plots(results: Results, folder: str | Path) -> tuple[Path, ...]:
    """Files of every plot that the results allow, written into `folder`, which is made if needed.

    Accuracy against throughput where there are two results or more and all have frames_per_s; mIoU by distance where
    any has more than distance 0; consistency over time where all models have that of the same clips, measured the same
    way; IoU by class always. Raises ConfigError as the functions below do, before anything is written, and MissingExtra
    without matplotlib.
    """
    plotted = read_results(results)
    files: tuple[Path, ...] = ()
    if len(plotted) > 1 and all(result.frames_per_s is not None for result in plotted):
        files += plot_throughput(results, folder)
    if any(result.keyframe_interval > 1 for result in plotted):
        files += plot_distances(results, folder)
    bases = {result.consistency and result.consistency.basis for result in _longest(plotted)}
    if len(bases) == 1 and None not in bases:
        files += plot_consistency(results, folder)
    return files + plot_classes(results, folder)


def plot_throughput(results: Results, folder: str | Path) -> tuple[Path, ...]:
    """throughput.png and .svg: mean mIoU over frames/s, a curve per model, a point per keyframe interval (Fig. 3).

    Raises ConfigError where a result has no frames_per_s, no mIoU, or was timed on another device than the first.
    """
    plotted = read_results(results)
    for result in plotted:
        missing = [name for name in ("frames_per_s", "avg_miou") if getattr(result, name) is None]
        if missing:
            raise ConfigError(f"{result.model} at interval {result.keyframe_interval} has no {missing[0]} to plot")
    check_alike("devices", [str(result.device) for result in plotted])
    return _draw(plotted, folder, "throughput", draw_throughput)


def plot_distances(results: Results, folder: str | Path) -> tuple[Path, ...]:
    """distance.png and .svg: mIoU by distance from the keyframe (Table 4), holding its labels dashed.

    A curve per model, of its longest interval. Raises ConfigError where no result has more than distance 0.
    """
    plotted = read_results(results)
    longest = _longest(plotted)
    if all(result.keyframe_interval == 1 for result in longest):
        raise ConfigError("no result has more than distance 0; evaluate with a keyframe interval above 1")
    return _draw(longest, folder, "distance", draw_distances)


def plot_consistency(results: Results, folder: str | Path) -> tuple[Path, ...]:
    """consistency.png and .svg: temporal consistency (TC) of each pair of neighbouring frames over time, clip by clip.

    Of one model a curve per kind of labels, of several a curve of each one's own and the truth's; each model at its
    longest interval. The legend says TC pooled over all pairs of all clips, which is not the mean of the curve. Of many
    clips those are drawn where the first curve's TC is lowest. Raises ConfigError where a result has no TC of pairs, or
    on another basis than the first.
    """
    longest, measured = _longest(read_results(results)), []
    for result in longest:
        if result.consistency is None:
            raise ConfigError(f"{result.model} at interval {result.keyframe_interval} has no TC of pairs to plot")
        measured.append(result.consistency)
    check_alike("consistency", [consistency.basis for consistency in measured])
    _check_models(longest)
    rows, names = name_rows(longest), measured[0].clips
    clips = {clip: names[clip] for clip in _lowest_clips(next(iter(rows.values())))}
    data = longest[0].data if len(longest) > 1 else f"{longest[0].data}: {longest[0].model}"
    if len(clips) < len(names):
        data += f", the {len(clips)} of {len(names)} clips whose TC is lowest"
    return save_figure(
        folder,
        "consistency",
        lambda figure: draw_consistency(figure, rows, clips, data, longest[0].step_ms),
        size=(10.0, 1.6 + 2.2 * len(clips)),
    )


def plot_classes(results: Results, folder: str | Path) -> tuple[Path, ...]:
    """classes.png and .svg: IoU by class, pooled over distances, a bar per model; absent classes say so.

    A model with several intervals has two bars, of its shortest and, paler, of its longest.
    """
    groups = by_model(read_results(results)).values()
    ends = [result for group in groups for result in group[:1] + group[1:][-1:]]
    return _draw(ends, folder, "classes", draw_classes)


def _longest(results: Sequence[PlottedResult]) -> list[PlottedResult]:
    """Each model's result at its longest keyframe interval."""
    return [group[-1] for group in by_model(results).values()]


def _lowest_clips(row: PlottedRow) -> list[int]:
    """Numbers of the clips to draw, ascending: all, or of many those with the lowest TC."""
    tc = [math.inf if percent is None else percent for percent in row.per_clip]
    return sorted(sorted(range(len(tc)), key=tc.__getitem__)[:_MOST_CLIPS])


def _check_models(results: Sequence[PlottedResult]) -> None:
    """Raises ConfigError for more models than colours."""
    models = by_model(results)
    if len(models) > len(COLOURS):
        raise ConfigError(f"{len(models)} models in one plot; at most {len(COLOURS)} can be told apart")


def _draw(results: Sequence[PlottedResult], folder: str | Path, name: str, draw: Draw) -> tuple[Path, ...]:
    """Both files of one plot. Raises ConfigError for more models than colours, and for a folder that cannot be made."""
    _check_models(results)
    looks = dict(zip(by_model(results), zip(COLOURS, MARKERS)))
    return save_figure(folder, name, lambda figure: draw(figure.add_subplot(), results, looks))


def save_figure(
    folder: str | Path, name: str, draw: Callable[[Any], None], *, size: tuple[float, float] = (7.0, 4.2)
) -> tuple[Path, ...]:
    """<name>.png and .svg in `folder`, which is made if needed. draw: onto the matplotlib figure of `size` in inches.

    Raises ConfigError for a folder that cannot be made, MissingExtra without matplotlib.
    """
    style, folder = import_matplotlib("matplotlib.style"), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    files = folder / f"{name}.png", folder / f"{name}.svg"
    with style.context(["default", STYLE]):
        figure = import_matplotlib("matplotlib.figure").Figure(figsize=size)
        draw(figure)
        for path, metadata in zip(files, ({"Software": None}, {"Date": None})):
            figure.savefig(path, metadata=metadata)
    return files
