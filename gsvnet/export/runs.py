"""Runs of equal labels: what run-length encodings of all classes are made from in one pass over the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Runs:
    """Runs of a flat label map of `size` pixels. labels: (N,) uint8; edges: (N + 1,) int64, run i is [i, i + 1)."""

    labels: np.ndarray
    edges: np.ndarray

    def lengths(self, label: int) -> np.ndarray:
        """Lengths (M,) int64, alternately of pixels with another label, 0 where it begins with this one, and with it.

        They add up to all pixels.
        """
        of_label = np.flatnonzero(self.labels == label)
        bounds = np.stack([self.edges[of_label], self.edges[of_label + 1]], axis=1).ravel()
        size = self.edges[-1]
        ends = bounds if len(bounds) and bounds[-1] == size else np.append(bounds, size)
        return np.diff(ends, prepend=0)

    def present(self, num_classes: int) -> list[int]:
        """The class ids that occur, ascending; without "ignore"."""
        return [int(label) for label in np.unique(self.labels) if label < num_classes]


def find_runs(flat: np.ndarray) -> Runs:
    """The runs of a flat label map (P,) uint8."""
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], starts, [len(flat)]])
    return Runs(labels=flat[edges[:-1]], edges=edges)
