"""Fixed and chosen keyframe intervals side by side, as a table and as a plot for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gsvnet.evaluation.as_labeled import AsLabeled, Compared
from gsvnet.evaluation.drawing import COLOURS, MARKERS
from gsvnet.evaluation.plots import save_figure

_COLUMNS = ("mIoU", "interval", "keyframes", "GMAC", "time", "at GMAC", "at time", "speed")


def show_as_labeled(compared: Compared, console: Console) -> None:
    """Print a row for every setting."""
    console.print(
        f"{compared.dataset} {compared.split}: {compared.rows[0].num_frames} frames, labeled as a job does; mIoU in "
        "percent over all of them; mean interval, share of keyframes, GMAC per frame, time over that of L=1; of chosen "
        "intervals: mIoU over that of fixed ones at equal GMAC and at equal time, and speed over theirs at equal mIoU"
    )
    table = Table()
    table.add_column("", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for row in compared.rows:
        gains = (compared.gain_at_equal_macs(row), compared.gain_at_equal_time(row))
        speedup = compared.speedup_at_equal_miou(row)
        table.add_row(
            str(row.setting),
            f"{row.miou:.1f}",
            f"{row.mean_interval:.2f}",
            f"{100 * row.keyframe_share:.1f} %",
            f"{row.macs_per_frame / 1e9:.2f}",
            f"{compared.relative_time(row):.3f}",
            *("" if gain is None else f"{gain:+.1f}" for gain in gains),
            "" if speedup is None else f"{speedup:.2f}",
        )
    console.print(table)
    for note in compared.notes:
        console.print(f"note: {note}", soft_wrap=True)


def plot_as_labeled(compared: Compared, folder: Path) -> tuple[Path, ...]:
    """as_labeled.png and .svg in `folder`, made if needed: mIoU over MACs and over time, of fixed and chosen intervals.

    Raises MissingExtra without matplotlib and ConfigError for a folder that cannot be made.
    """

    def draw(figure: Any) -> None:
        by_macs, by_time = figure.subplots(1, 2, sharey=True)
        _draw_settings(by_macs, compared, lambda row: row.macs_per_frame / 1e9)
        _draw_settings(by_time, compared, compared.relative_time)
        by_macs.set(xlabel="GMAC per frame", ylabel="mIoU of all frames (%)")
        by_time.set(xlabel="time, over that of L=1")
        by_time.legend(loc="lower right")
        figure.suptitle(f"{compared.dataset} {compared.split}", fontsize=11)
        figure.tight_layout()

    return save_figure(folder, "as_labeled", draw, size=(9.6, 4.2))


def _draw_settings(axes: Any, compared: Compared, cost: Callable[[AsLabeled], float]) -> None:
    """mIoU over what each setting costs: a curve of fixed intervals, and one of those that the network chose."""
    for number, name in enumerate(("fixed interval", "chosen, by least agreement")):
        rows = [row for row in compared.rows if bool(row.setting.interval) == (number == 0)]
        points = [(cost(row), row.miou) for row in rows]
        if not points:
            continue
        colour, marker = COLOURS[number], MARKERS[number]
        axes.plot(*zip(*points), color=colour, marker=marker, label=name)
        for row, point in zip(rows, points):
            text, place, side = str(row.setting), ((5, -8), (-5, 4))[number], ("left", "right")[number]
            text = text.removeprefix("agreement ")
            axes.annotate(text, point, place, textcoords="offset points", fontsize=7, color=colour, ha=side)
    axes.margins(0.1)
