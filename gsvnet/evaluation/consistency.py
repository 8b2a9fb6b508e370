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
    """Counts of each of the P pairs of neighbouring frames of one clip, in the order of time.

    intersections, unions: (P, C) int64 pixels; 16 bytes per pair and class in all. num_pixels: of all pairs. num_valid:
    those of them that were compared.
    """

    intersections: np.ndarray
    unions: np.ndarray
    num_pixels: int
    num_valid: int

    @classmethod
    def join(cls, clips: Sequence[ClipConsistency]) -> ClipConsistency:
        """The pairs of all clips, one clip after another."""
        return cls(
            intersections=np.concatenate([clip.intersections for clip in clips]),
            unions=np.concatenate([clip.unions for clip in clips]),
            num_pixels=sum(clip.num_pixels for clip in clips),
            num_valid=sum(clip.num_valid for clip in clips),
        )

    @property
    def num_pairs(self) -> int:
        """Pairs of neighbouring frames, P."""
        return len(self.unions)

    @property
    def intersection(self) -> np.ndarray:
        """(C,) int64 pixels of all pairs."""
        return self.intersections.sum(0)

    @property
    def union(self) -> np.ndarray:
        """(C,) int64 pixels of all pairs."""
        return self.unions.sum(0)


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
        return ClipConsistency.join(self.clips)

    @property
    def miou(self) -> float:
        """TC: over all pairs of all clips. "sound": mean over the classes that occur; "etc": over all classes."""
        pooled = self.pooled
        return self._miou(pooled.intersection, pooled.union)

    @property
    def per_clip(self) -> list[float]:
        """TC of each clip by itself."""
        return [self._miou(clip.intersection, clip.union) for clip in self.clips]

    @property
    def per_pair(self) -> list[list[float]]:
        """TC of each pair of each clip by itself; NaN where nothing was compared.

        Their mean is not `miou`. All pairs weigh the same, and in "sound" each is over the classes that occur in it.
        `miou` first adds up the pixels of each class over all pairs: a class that is small and flickers in one pair
        costs that pair as much as any class does, but hardly counts beside pairs where it is large.
        """
        return [[self._miou(*pair) for pair in zip(clip.intersections, clip.unions)] for clip in self.clips]

    @property
    def per_class(self) -> np.ndarray:
        """(C,) float64 over all pairs; a class that never occurs is NaN in "sound" and 0 in "etc"."""
        pooled = self.pooled
        return self._per_class(pooled.intersection, pooled.union)

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
            "per_pair": [[_percent(miou) for miou in clip] for clip in self.per_pair],
            "num_pairs": self.num_pairs,
            "valid_share": round(self.valid_share, 5),
        }

    @property
    def _arithmetic(self) -> tuple[str, str, int]:
        return self.mode, self.flow, self.clips[0].unions.shape[1]

    def _per_class(self, intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
        if self.mode == "etc":
            return 100 * intersection / (union + 1e-10)
        absent = np.full(len(union), np.nan)
        return np.divide(100.0 * intersection, union, out=absent, where=union > 0)

    def _miou(self, intersection: np.ndarray, union: np.ndarray) -> float:
        iou = self._per_class(intersection, union)
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

    Class ids are 0..num_classes-1; 255 is no class and is not compared. Two frames are in memory at a time, and of
    those before them the counts of each pair.
    Raises ConfigError for other ids, shapes that differ, unequal numbers of labels and images, and fewer than 2 frames.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"consistency mode {mode!r}; allowed: {', '.join(get_args(Mode))}")
    if not 1 <= num_classes <= IGNORE:
        raise ConfigError(f"{num_classes} classes; allowed: 1..{IGNORE}")
    compare = _compare_soundly if mode == "sound" else _compare_as_etc
    frames = _checked_frames(labels, images, num_classes)
    pairs = [compare(earlier, later, num_classes, flow) for earlier, later in pairwise(frames)]
    if not pairs:
        raise ConfigError("consistency of fewer than 2 frames; needed: 2 or more")
    return ConsistencyResult(mode=mode, flow=flow.name, clips=(ClipConsistency.join(pairs),))


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
        intersections=hits[None],
        unions=(square.sum(0) + square.sum(1) - hits)[None],
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
        intersections=hits[None],
        unions=(here + there - hits)[None],
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
