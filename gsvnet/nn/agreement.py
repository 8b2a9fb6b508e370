"""How far two label maps of the same places agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsvnet.classes import IGNORE


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far two label maps agree, or several pairs of them added up.

    num_equal: of num_places, those with one label. shared, either: (C,) int64, places that both maps label with each
    class, or at least one of them.
    """

    num_equal: int
    num_places: int
    shared: np.ndarray
    either: np.ndarray

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            num_equal=self.num_equal + other.num_equal,
            num_places=self.num_places + other.num_places,
            shared=self.shared + other.shared,
            either=self.either + other.either,
        )

    @property
    def agreement(self) -> float:
        """Share of the places with one label, 0..1."""
        return self.num_equal / self.num_places

    @property
    def iou(self) -> np.ndarray:
        """(C,) float64 in 0..1: intersection over union of each class, NaN for those in neither map."""
        return np.where(self.either > 0, self.shared / np.maximum(self.either, 1), np.nan)


def compare_maps(one: np.ndarray, other: np.ndarray, num_classes: int) -> Comparison | None:
    """The comparison of two label maps (h, w) uint8 at the places that both label; None where there are none."""
    labeled = (one != IGNORE) & (other != IGNORE)
    one, other = one[labeled], other[labeled]
    if not one.size:
        return None
    shared = np.bincount(one[one == other], minlength=num_classes)
    counts = np.bincount(one, minlength=num_classes) + np.bincount(other, minlength=num_classes)
    return Comparison(num_equal=int(shared.sum()), num_places=one.size, shared=shared, either=counts - shared)
