"""Temporal consistency (TC): the mIoU between the labels of a frame and those of the next, brought there by flow.

"sound": the earlier labels go to the later frame by nearest warp; only pixels with valid flow are compared. "etc": the
arithmetic of the script behind the published figures (Liu et al., ECCV 2020, tool/eval_tc.py), but for FlowNet2.
Those figures hold the flow's errors too, so figures are comparable only with equal mode and equal flow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Literal, get_args

import numpy as np

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.video.flow import DIS, FlowEstimator, blend_ids, warp_labels

Mode = Literal["sound", "etc"]
_Frame = tuple[np.ndarray, np.ndarray]  # labels, image


@dataclass(frozen=True, kw_only=True)
class ClipConsistency:
    """Counts over the pairs of neighbouring frames of one clip.

    intersection, union: (C,) int64 pixels. num_pixels: of all pairs. num_valid: those of them that were compared.
    """

    intersection: np.ndarray
    union: np.ndarray
    num_pairs: int
    num_pixels: int
    num_valid: int

    def __add__(self, other: ClipConsistency) -> ClipConsistency:
        mine, theirs = vars(self), vars(other)
        return ClipConsistency(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, kw_only=True)
class ConsistencyResult:
    """Temporal consistency of one or more clips; results of single clips add up. All IoUs are in percent.

    flow: what estimated it.
    """

    mode: Mode
    flow: str
    clips: tuple[ClipConsistency, ...]

    def __add__(self, other: ConsistencyResult) -> ConsistencyResult:
        if self._arithmetic != other._arithmetic:
            raise ConfigError(
                f"cannot pool consistency of (mode, flow, classes) {self._arithmetic} and {other._arithmetic}"
            )
        return ConsistencyResult(mode=self.mode, flow=self.flow, clips=self.clips + other.clips)

    @property
    def pooled(self) -> ClipConsistency:
        """The counts of all clips as if they were one."""
        first, *others = self.clips
        return sum(others, first)

    @property
    def miou(self) -> float:
        """TC: over all pairs of all clips. "sound": mean over the classes that occur; "etc": over all classes."""
        return self._miou(self.pooled)

    @property
    def per_clip(self) -> list[float]:
        """TC of each clip by itself."""
        return [self._miou(clip) for clip in self.clips]

    @property
    def per_class(self) -> np.ndarray:
        """(C,) float64 over all pairs; a class that never occurs is NaN in "sound" and 0 in "etc"."""
        return self._per_class(self.pooled)

    @property
    def note(self) -> str:
        """What the figure may be compared with."""
        if self.mode == "etc":
            return f"arithmetic of ETC's script, no mask, flow by {self.flow}; the published figures used FlowNet2"
        return f"nearest warp, pixels with valid flow only, flow by {self.flow}; not comparable with published figures"

    @property
    def num_pairs(self) -> int:
        """Pairs of neighbouring frames."""
        return self.pooled.num_pairs

    @property
    def valid_share(self) -> float:
        """Share in 0..1 of the pixels that were compared."""
        return self.pooled.num_valid / self.pooled.num_pixels

    def to_dict(self, class_names: Sequence[str]) -> dict:
        """JSON-ready, percent to 0.001; null for what no pixel says. class_names: in order of ids."""
        return {
            "mode": self.mode,
            "flow": self.flow,
            "note": self.note,
            "miou": _percent(self.miou),
            "per_class": {name: _percent(iou) for name, iou in zip(class_names, self.per_class.tolist(), strict=True)},
            "per_clip": [_percent(miou) for miou in self.per_clip],
            "num_pairs": self.num_pairs,
            "valid_share": round(self.valid_share, 5),
        }

    @property
    def _arithmetic(self) -> tuple[str, str, int]:
        return self.mode, self.flow, len(self.pooled.union)

    def _per_class(self, counts: ClipConsistency) -> np.ndarray:
        if self.mode == "etc":
            return 100 * counts.intersection / (counts.union + 1e-10)
        absent = np.full(len(counts.union), np.nan)
        return np.divide(100.0 * counts.intersection, counts.union, out=absent, where=counts.union > 0)

    def _miou(self, counts: ClipConsistency) -> float:
        iou = self._per_class(counts)
        occurs = ~np.isnan(iou)
        return float(iou[occurs].mean()) if occurs.any() else math.nan


def measure_consistency(
    labels: Iterable[np.ndarray],
    images: Iterable[np.ndarray],
    *,
    num_classes: int,
    mode: Mode = "sound",
    flow: FlowEstimator = DIS,
) -> ConsistencyResult:
    """Temporal consistency of the labels (H, W) uint8 of a clip's consecutive images (H, W, 3) uint8 RGB.

    Class ids are 0..num_classes-1; 255 is no class and is not compared. Two frames are in memory at a time.
    Raises ConfigError for other ids, shapes that differ, unequal numbers of labels and images, and fewer than 2 frames.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"consistency mode {mode!r}; allowed: {', '.join(get_args(Mode))}")
    if not 1 <= num_classes <= IGNORE:
        raise ConfigError(f"{num_classes} classes; allowed: 1..{IGNORE}")
    compare = _compare_soundly if mode == "sound" else _compare_as_etc
    total: ClipConsistency | None = None
    for earlier, later in pairwise(_checked_frames(labels, images, num_classes)):
        counts = compare(earlier, later, num_classes, flow)
        total = counts if total is None else total + counts
    if total is None:
        raise ConfigError("consistency of fewer than 2 frames; needed: 2 or more")
    return ConsistencyResult(mode=mode, flow=flow.name, clips=(total,))


def _compare_soundly(earlier: _Frame, later: _Frame, num_classes: int, flow: FlowEstimator) -> ClipConsistency:
    """One pair: the earlier labels where the later frame sees them, against the later ones, where flow is valid."""
    (past_labels, past_image), (labels, image) = earlier, later
    to_past, valid = flow.estimate(image, past_image)
    warped, inside = warp_labels(past_labels, to_past)
    compared = valid & inside & (warped != IGNORE) & (labels != IGNORE)
    matrix = ConfusionMatrix(num_classes)
    matrix.update(warped[compared], labels[compared])
    square = matrix.counts[:, :-1]  # no 255 is left for the last column
    hits = np.diagonal(square).copy()
    return ClipConsistency(
        intersection=hits,
        union=square.sum(0) + square.sum(1) - hits,
        num_pairs=1,
        num_pixels=labels.size,
        num_valid=int(compared.sum()),
    )


def _compare_as_etc(earlier: _Frame, later: _Frame, num_classes: int, flow: FlowEstimator) -> ClipConsistency:
    """One pair: the later labels back in the earlier frame, blended and truncated, against the earlier ones, unmasked.

    Between two classes, or a class and 255, lie ids of classes that are in neither frame; truncation of an id that
    rounding has made too small gives the one before. Both cost points of TC that no network lost.
    """
    (labels, image), (next_labels, next_image) = earlier, later
    to_next, _ = flow.estimate(image, next_image)
    warped = blend_ids(next_labels, to_next).astype(np.uint8)
    labels = np.where(warped == IGNORE, IGNORE, labels)
    hits, here, there = (_areas(ids, num_classes) for ids in (labels[labels == warped], labels, warped))
    return ClipConsistency(
        intersection=hits,
        union=here + there - hits,
        num_pairs=1,
        num_pixels=labels.size,
        num_valid=int((warped != IGNORE).sum()),
    )


def _areas(ids: np.ndarray, num_classes: int) -> np.ndarray:
    """(C,) int64 pixels per class. The last class takes id C too, as the script's closed last bin does."""
    return np.histogram(ids, bins=np.arange(num_classes + 1))[0]


def _checked_frames(labels: Iterable[np.ndarray], images: Iterable[np.ndarray], num_classes: int) -> Iterator[_Frame]:
    """Labels with their images, in step."""
    shape: tuple[int, ...] | None = None
    for number, (ids, image) in enumerate(zip_longest(labels, images)):
        if ids is None or image is None:
            raise ConfigError(f"frame {number} has no {'labels' if ids is None else 'image'}; each needs both")
        shape = ids.shape if shape is None else shape
        if ids.dtype != np.uint8 or not ids.shape == image.shape[:2] == shape:
            raise ConfigError(
                f"frame {number}: labels {ids.dtype} {ids.shape}, image {image.shape}; needed: uint8 {shape} for both"
            )
        wrong = (ids >= num_classes) & (ids != IGNORE)
        if wrong.any():
            raise ConfigError(
                f"frame {number} has class id {ids[wrong][0]}; allowed: 0..{num_classes - 1} and {IGNORE} (ignore)"
            )
        yield ids, image


def _percent(percent: float) -> float | None:
    return None if math.isnan(percent) else round(percent, 3)
