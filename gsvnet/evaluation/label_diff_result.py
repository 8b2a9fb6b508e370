"""What comparing two outputs came to: figures, JSON, and lines for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.words import count

RULE = "pixels that OUT1 ignores are not counted, those that only OUT2 ignores are different; lost frames are left out"
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class FrameAgreement:
    """One compared frame of OUT1's `video`. agreement: share of equal pixels; None where no pixel is counted."""

    video: str
    frame_index: int
    time_s: float
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class OneSided:
    """Frames of a video that only OUT1 or only OUT2 (out: 1 or 2) has. ranges: the first ten, [start, stop)."""

    out: int
    video: str
    frames: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class LabelDiff:
    """How far two outputs agree.

    classes: names of those compared; merged: how the outputs' own became these, "" where they are the same.
    videos_of_other_size: of the compared, those whose file had another size when OUT2 was labeled.
    frames: compared; of these equal, and compared at another size than one of them has; frames_lost: in either, and of
    these in one of both alone. max_differing: the largest share of pixels that may differ, None where none was given.
    matrix: rows are OUT1's classes. by_distance: the same for each keyframe_distance of OUT2's rows, None last.
    worst: the least agreement first.
    """

    out1: str
    out2: str
    classes: tuple[str, ...]
    merged: str
    every: int
    videos: tuple[str, ...]
    videos_of_other_size: tuple[str, ...]
    videos_only_in_1: tuple[str, ...]
    videos_only_in_2: tuple[str, ...]
    frames: int
    frames_equal: int
    frames_lost: int
    frames_lost_in_one: int
    frames_resized: int
    one_sided: tuple[OneSided, ...]
    matrix: ConfusionMatrix
    by_distance: Mapping[int | None, ConfusionMatrix]
    worst: tuple[FrameAgreement, ...]
    max_differing: float | None
    seconds: float

    @property
    def pixels(self) -> int:
        """Pixels that were counted."""
        return int(self.matrix.counts.sum())

    @property
    def pixels_differing(self) -> int:
        """Those of them that have two labels."""
        return self.pixels - int(np.trace(self.matrix.counts))

    @property
    def keeps_bound(self) -> bool | None:
        """Whether at most `max_differing` of the pixels differ and both outputs have labels of the same frames.

        None where no bound was given. Where no pixel was counted nothing was shown, so no bound is kept.
        """
        if self.max_differing is None:
            return None
        lacking = (self.one_sided, self.videos_only_in_1, self.videos_only_in_2, self.frames_lost_in_one)
        return self.pixels > 0 and self.pixels_differing <= self.max_differing * self.pixels and not any(lacking)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form with the derived figures; what has no value is null."""
        plain = {
            name: getattr(self, name)
            for name in ("out1", "out2", "merged", "every", "videos", "videos_only_in_1", "videos_only_in_2")
            + ("videos_of_other_size",)
            + ("frames", "frames_equal", "frames_lost", "frames_lost_in_one", "frames_resized")
            + ("pixels", "pixels_differing", "max_differing", "keeps_bound", "seconds")
        }
        distances = [{"keyframe_distance": d, **_figures(matrix)} for d, matrix in self.by_distance.items()]
        return {
            **plain,
            "rule": RULE,
            **_figures(self.matrix),
            "iou": {name: _number(iou) for name, iou in zip(self.classes, self.matrix.iou())},
            "by_keyframe_distance": distances,
            "worst_frames": [asdict(frame) for frame in self.worst],
            "frames_in_one_only": [asdict(each) for each in self.one_sided],
        }


def agreement_of(matrix: ConfusionMatrix) -> float:
    """Share of equal pixels, 0..1, of those counted; NaN without any."""
    total = int(matrix.counts.sum())
    return int(np.trace(matrix.counts)) / total if total else math.nan


def show_diff(diff: LabelDiff, console: Console) -> None:
    """Print the result: facts by line, classes and distances as tables."""
    for name, text in describe_diff(diff).items():
        _print(f"[bold]{name:<8}[/bold] {escape(text)}", console)
    table = Table("class", "IoU", "share of OUT1", box=None, pad_edge=False)
    total = max(1, int(diff.matrix.counts.sum()))
    for name, iou, row in zip(diff.classes, diff.matrix.iou(), diff.matrix.counts):
        if not math.isnan(iou):
            table.add_row(escape(name), _percent(iou), _percent(row.sum() / total))
    console.print(table)
    distances = Table("keyframe_distance", "equal pixels", "mIoU", box=None, pad_edge=False)
    for distance, matrix in diff.by_distance.items():
        distances.add_row(
            "none" if distance is None else str(distance), _percent(agreement_of(matrix)), _percent(matrix.miou())
        )
    console.print(distances)
    for frame in diff.worst:
        text = f"{frame.video} frame {frame.frame_index} at {frame.time_s:.3f} s: {_percent(frame.agreement)} equal"
        _print(f"[bold]{'worst':<8}[/bold] {escape(text)}", console)


def describe_diff(diff: LabelDiff) -> dict[str, str]:
    """The lines of the result by name, without tables and frames."""
    every = f" (every {diff.every}th)" if diff.every > 1 else ""
    lost = f", {diff.frames_lost:,} lost in either left out" if diff.frames_lost else ""
    sizes = f", {diff.frames_resized:,} at the smaller of two mask sizes" if diff.frames_resized else ""
    lines = {
        "outputs": f"{diff.out1} and {diff.out2}",
        "videos": f"{len(diff.videos):,} compared",
        "frames": f"{diff.frames:,} compared{every}, {diff.frames_equal:,} of them equal{lost}{sizes}",
        "equal": f"{_percent(agreement_of(diff.matrix))} of the pixels, mIoU {_percent(diff.matrix.miou())}",
        "differ": _differing(diff),
        "counted": RULE,
    }
    if diff.max_differing is not None:
        lines["bound"] = _bound(diff)
    if diff.merged:
        lines["classes"] = diff.merged
    if diff.videos_of_other_size:
        named = ", ".join(diff.videos_of_other_size[:_SHOWN])
        lines["files"] = f"of another size in each output, so perhaps of other pictures: {named}"
    for number, videos in ((1, diff.videos_only_in_1), (2, diff.videos_only_in_2)):
        if videos:
            lines[f"only {number}"] = f"{count(len(videos), 'video')}: {', '.join(videos[:_SHOWN])}"
    for number in (1, 2):
        found = [each for each in diff.one_sided if each.out == number]
        if found:
            where = "; ".join(f"{each.video} {_ranges(each)}" for each in found[:_SHOWN])
            lines[f"in OUT{number}"] = (
                f"{count(sum(each.frames for each in found), 'frame')} that the other lacks: {where}"
            )
    return lines


def _differing(diff: LabelDiff) -> str:
    share = f" ({_exactly(diff.pixels_differing / diff.pixels)})" if diff.pixels_differing else ""
    frames = f", in {count(diff.frames - diff.frames_equal, 'frame')}" if diff.pixels_differing else ""
    return f"{diff.pixels_differing:,} of {count(diff.pixels, 'pixel')}{share}{frames}"


def _bound(diff: LabelDiff) -> str:
    assert diff.max_differing is not None
    lost = f", {count(diff.frames_lost_in_one, 'frame')} lost in one of them" if diff.frames_lost_in_one else ""
    others = diff.one_sided or diff.videos_only_in_1 or diff.videos_only_in_2
    kept = "kept" if diff.keeps_bound else f"not kept{lost}{', not the same frames' if others else ''}"
    return f"at most {_exactly(diff.max_differing)} of the pixels: {kept}"


def _figures(matrix: ConfusionMatrix) -> dict[str, float | None]:
    return {"agreement": _number(agreement_of(matrix)), "miou": _number(matrix.miou())}


def _ranges(each: OneSided) -> str:
    return ", ".join(f"{start}-{stop - 1}" for start, stop in each.ranges)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _percent(value: float | None) -> str:
    """ "99.98 %"; never "100.00 %" for less than all."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{100 * value:.2f}"
    return f"{'99.99' if text == '100.00' and value < 1 else text} %"


def _exactly(share: float) -> str:
    """ "0.0012 %": two digits that count."""
    return f"{float(f'{100 * share:.2g}'):.12f}".rstrip("0").rstrip(".") + " %"


def _print(line: str, console: Console) -> None:
    console.print(line, highlight=False, soft_wrap=True, emoji=False)
