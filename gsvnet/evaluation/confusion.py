"""Counts of true and predicted classes, and the mIoU that follows from them."""

from __future__ import annotations

import numpy as np

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError


class ConfusionMatrix:
    """How often each true class was labeled as which class.

    counts: (C, C + 1) int64; row: true class, column: label. The last column counts pixels labeled 255: they miss
    their true class and belong to no other.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    @property
    def num_classes(self) -> int:
        """C, without the ignored one."""
        return len(self.counts)

    def update(self, truth: np.ndarray, labels: np.ndarray) -> None:
        """Count the pixels of truth and labels, two uint8 arrays of one shape; where truth is 255 nothing is counted.

        Raises ConfigError for shapes that differ and for ids that are neither a class nor 255.
        """
        if truth.shape != labels.shape:
            raise ConfigError(f"truth has shape {truth.shape}, labels have {labels.shape}; they must be equal")
        self._check_ids("truth", truth)
        self._check_ids("labels", labels)
        counted = truth != IGNORE
        columns = self.num_classes + 1
        pairs = truth[counted].astype(np.int64) * columns + np.minimum(labels[counted], self.num_classes)
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        pooled = ConfusionMatrix(self.num_classes)
        pooled.counts = self.counts + other.counts
        return pooled

    def iou(self) -> np.ndarray:
        """(C,) float64 in 0..1: intersection over union; NaN for classes absent from the truth.

        A class that is only labeled has no IoU of its own: its pixels miss their true classes. So all label maps of the
        same truth are judged by the same classes, and their mIoUs may be compared even on few frames.
        """
        square, in_truth = self.counts[:, :-1], self.counts.sum(1)
        hits = np.diagonal(square).astype(np.float64)
        union = in_truth + square.sum(0) - hits
        return np.divide(hits, union, out=np.full(len(hits), np.nan), where=in_truth > 0)

    def miou(self) -> float:
        """Mean IoU in 0..1 over the classes that occur in the truth; NaN if none does."""
        iou = self.iou()
        present = ~np.isnan(iou)
        return float(iou[present].mean()) if present.any() else float("nan")

    def absent(self) -> tuple[int, ...]:
        """Ids of the classes that do not occur in the truth, which `miou` leaves out."""
        return tuple(np.flatnonzero(np.isnan(self.iou())).tolist())

    def only_labeled(self) -> tuple[int, ...]:
        """Ids of the absent classes that pixels of other classes were labeled as."""
        return tuple(i for i in self.absent() if self.counts[:, i].any())

    def _check_ids(self, what: str, ids: np.ndarray) -> None:
        wrong = (ids >= self.num_classes) & (ids != IGNORE)
        if wrong.any():
            raise ConfigError(
                f"{what} has class id {ids[wrong][0]}; allowed: 0..{self.num_classes - 1} and {IGNORE} (ignore)"
            )
