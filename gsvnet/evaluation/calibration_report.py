"""Reliability for people and programs: a table, JSON-ready figures, a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError
from gsvnet.evaluation.calibration import Reliability, ReliabilityBin, measure_reliability
from gsvnet.evaluation.calibration_counts import ConfidenceCounts
from gsvnet.evaluation.drawing import COLOURS, STYLE, import_matplotlib
from gsvnet.nn.confidence import Calibration

_GREY = "#999999"
_LEAST_DRAWN = 0.001  # share of all pixels or frames that a bin holds


@dataclass(frozen=True, kw_only=True)
class ComparedReliability:
    """The confidence of one network on one split. calibrated: under its calibration; None: it has none."""

    data: str
    classes: ClassSet
    num_frames: int
    raw: Reliability
    calibration: Calibration | None = None
    calibrated: Reliability | None = None

    @property
    def rows(self) -> dict[str, Reliability]:
        """Each by its name: "raw", and "calibrated" where there is a calibration."""
        return {"raw": self.raw} if self.calibrated is None else {"raw": self.raw, "calibrated": self.calibrated}

    def to_dict(self) -> dict:
        """JSON-ready; all figures in 0..1, null for classes that no pixel was labeled with."""
        return {
            "num_frames": self.num_frames,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            **{name: _figures(found, self.classes) for name, found in self.rows.items()},
        }


def compare_reliability(
    counts: ConfidenceCounts, calibration: Calibration | None, *, data: str, classes: ClassSet
) -> ComparedReliability:
    """Reliability of the network's own confidence and, where there is a calibration, of the calibrated one."""
    return ComparedReliability(
        data=data,
        classes=classes,
        num_frames=len(counts.frames),
        raw=measure_reliability(counts, None),
        calibration=calibration,
        calibrated=None if calibration is None else measure_reliability(counts, calibration),
    )


def show_reliability(compared: ComparedReliability, console: Console) -> None:
    """Print ECE of frames and pixels and the gaps by distance and class, in percent."""
    console.print(
        f"confidence on {compared.data}, {compared.num_frames} labelings of scored frames; in percent: ECE, and gaps "
        "between mean confidence and accuracy",
        soft_wrap=True,
    )
    rows = compared.rows
    table = Table()
    table.add_column("confidence")
    for name in rows:
        table.add_column(name, justify="right")
    lines: list[tuple[str, list[float]]] = [
        ("ECE of frames", [found.frame_ece for found in rows.values()]),
        ("mean gap of a frame", [found.frame_gap for found in rows.values()]),
        ("ECE of pixels", [found.pixel_ece for found in rows.values()]),
    ]
    distances = list(compared.raw.by_distance)
    if len(distances) > 1:
        lines += [(f"gap at distance {d}", [found.by_distance[d] for found in rows.values()]) for d in distances]
    for number, name in enumerate(compared.classes.names):
        lines.append((f"gap of {name}", [found.class_gap[number] for found in rows.values()]))
    for name, values in lines:
        table.add_row(name, *("not labeled" if math.isnan(value) else f"{100 * value:.2f}" for value in values))
    console.print(table)
    if compared.calibration is None:
        console.print("the model has no calibration; gsvnet calibrate measures one")


def plot_reliability(compared: ComparedReliability, folder: Path) -> tuple[Path, ...]:
    """reliability.png and .svg in `folder`, which is made if needed: accuracy over confidence, of pixels and frames.

    Bins with less than 0.1 % of the pixels are not drawn: what they show is chance, such as the few places at the rim
    of which a propagation knows nothing. Raises MissingExtra without matplotlib and ConfigError for a folder that
    cannot be made.
    """
    style = import_matplotlib("matplotlib.style")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    files = folder / "reliability.png", folder / "reliability.svg"
    with style.context(["default", STYLE]):
        figure = import_matplotlib("matplotlib.figure").Figure(figsize=(8.4, 4.2), layout="constrained")
        whole, close = figure.subplots(1, 2)
        _draw_bins(whole, {name: found.pixels for name, found in compared.rows.items()}, scaled=True)
        _draw_bins(close, {name: found.frames for name, found in compared.rows.items()}, scaled=False)
        whole.set(xlabel="confidence of a pixel", ylabel="share that is right", title=f"{compared.data}: pixels")
        close.set(xlabel="confidence of a frame", ylabel="share of its pixels that is right", title="frames")
        whole.legend(loc="upper left")
        for path, metadata in zip(files, ({"Software": None}, {"Date": None})):
            figure.savefig(path, metadata=metadata)
    return files


def _draw_bins(axes: Any, curves: Mapping[str, Sequence[ReliabilityBin]], *, scaled: bool) -> None:
    """A curve of bins per name beside the diagonal. scaled: the larger a marker, the more pixels are in its bin."""
    curves = {name: [entry for entry in bins if entry.share >= _LEAST_DRAWN] for name, bins in curves.items()}
    points = [value for bins in curves.values() for entry in bins for value in (entry.confidence, entry.accuracy)]
    low, high = min(points), max(points)
    room = 0.05 * (high - low) + 0.002
    axes.plot([low - room, high + room], [low - room, high + room], color=_GREY, linewidth=1, linestyle=(0, (4, 2)))
    for (name, bins), colour in zip(curves.items(), COLOURS):
        x, y = [entry.confidence for entry in bins], [entry.accuracy for entry in bins]
        axes.plot(x, y, color=colour, label=name)
        axes.scatter(x, y, color=colour, s=[12 + 160 * entry.share if scaled else 24 for entry in bins])
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))


def _figures(found: Reliability, classes: ClassSet) -> dict:
    gaps = (None if math.isnan(gap) else round(gap, 5) for gap in found.class_gap)
    return {
        "frame_ece": round(found.frame_ece, 5),
        "frame_gap": round(found.frame_gap, 5),
        "pixel_ece": round(found.pixel_ece, 5),
        "per_distance": [round(gap, 5) for gap in found.by_distance.values()],
        "per_class": dict(zip(classes.identifiers, gaps)),
        "frame_bins": [[round(v, 5) for v in (b.confidence, b.accuracy, b.share)] for b in found.frames],
        "pixel_bins": [[round(v, 5) for v in (b.confidence, b.accuracy, b.share)] for b in found.pixels],
    }
