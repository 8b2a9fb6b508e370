"""A calibration fitted to what was counted, and how far confidence with and without it is from the truth.

ECE, the expected calibration error, is the mean distance between how sure one is and how often one is right, over bins
of equal confidence (C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017). Pixels are taken in 15 bins
of equal width. Frames, whose confidences lie close together, are taken in up to 10 bins with equally many frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gsvnet.evaluation.calibration_counts import LOG_ODDS, NUM_BINS, ConfidenceCounts, confidence_of_bins
from gsvnet.nn.confidence import Calibration

PIXEL_BINS, FRAME_BINS = 15, 10
_PULL = 1e-4  # towards what changes nothing, of a loss per pixel: keeps perfect networks from infinite odds


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Pixels or frames of nearly one confidence: its mean, the share that is right, their share of all."""

    confidence: float
    accuracy: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far a confidence is from the truth; all in 0..1.

    frames, pixels: reliability by bin of confidence; empty bins are left out. frame_gap: mean distance between a
    frame's confidence and its accuracy, over all; by_distance: over the frames at each distance from the keyframe.
    class_gap: by class, distance between mean confidence and accuracy of the pixels labeled with it; NaN where none is.
    """

    frames: tuple[ReliabilityBin, ...]
    pixels: tuple[ReliabilityBin, ...]
    frame_gap: float
    by_distance: dict[int, float]
    class_gap: tuple[float, ...]

    @property
    def frame_ece(self) -> float:
        """ECE of the confidence of frames."""
        return _ece(self.frames)

    @property
    def pixel_ece(self) -> float:
        """ECE of the confidence of pixels."""
        return _ece(self.pixels)


def measure_reliability(counts: ConfidenceCounts, calibration: Calibration | None) -> Reliability:
    """How far confidence under a calibration (None: the network's own) is from the truth that was counted."""
    given = {distance: confidence_of_bins(calibration, distance) for distance in counts.distances}
    confidence = np.array([frame.places @ given[frame.distance] / frame.places.sum() for frame in counts.frames])
    accuracy = np.array([frame.accuracy for frame in counts.frames])
    distance = np.array([frame.distance for frame in counts.frames])
    gap = np.abs(confidence - accuracy)
    values = np.concatenate([given[d] for d in counts.distances])
    pixels, right = (np.concatenate([by[d] for d in counts.distances], axis=1) for by in (counts.pixels, counts.right))
    totals = np.where(pixels.sum(1) > 0, pixels.sum(1), np.nan)
    order = np.argsort(confidence, kind="stable")
    frame_bins = [group for group in np.array_split(order, FRAME_BINS) if len(group)]
    numbers = np.minimum((values * PIXEL_BINS).astype(int), PIXEL_BINS - 1)
    pixel_bins = [numbers == number for number in range(PIXEL_BINS)]
    return Reliability(
        frames=_bins(confidence, np.ones(len(order)), accuracy, frame_bins),
        pixels=_bins(values, pixels.sum(0), right.sum(0), pixel_bins),
        frame_gap=float(gap.mean()),
        by_distance={d: float(gap[distance == d].mean()) for d in counts.distances},
        class_gap=tuple((np.abs(pixels @ values - right.sum(1)) / totals).tolist()),
    )


def fit_calibration(counts: ConfidenceCounts, drawn: ConfidenceCounts | None = None) -> Calibration:
    """The calibration under which the counted pixels are likeliest: logistic regression of being right.

    What changes with the distance from the keyframe is taken from `counts` where it has several distances, else from
    `drawn`, counts on drawn streets; their own level of confidence is not, since drawn streets are harder or easier.
    """
    if len(counts.distances) > 1:
        slope, shift, per_frame = _fit(counts, slope=None)
        farthest = counts.distances[-1]
    else:
        slope, shift, _ = _fit(counts, slope=None)
        per_frame, farthest = 0.0, 0
        if drawn is not None and len(drawn.distances) > 1:
            _, _, per_frame = _fit(drawn, slope=slope)
            farthest = drawn.distances[-1]
    return Calibration(
        slope=round(slope, 4), shift=round(shift, 4), shift_per_frame=round(per_frame, 4), farthest=farthest
    )


def _fit(counts: ConfidenceCounts, *, slope: float | None) -> tuple[float, float, float]:
    """Slope, shift and shift per frame of the likeliest curve. slope: keeps it at that."""
    distances = counts.distances
    pixels, right = (
        torch.from_numpy(np.stack([by[d].sum(0) for d in distances])).double() for by in (counts.pixels, counts.right)
    )
    away = torch.tensor(distances, dtype=torch.float64)[:, None]
    own = LOG_ODDS.double().expand(len(distances), NUM_BINS)
    start = torch.tensor([1.0 if slope is None else slope, 0.0, 0.0], dtype=torch.float64)
    free = torch.tensor([slope is None, True, len(distances) > 1])
    values = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([values], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        curve = values[0] * own + values[1] + values[2] * away
        unlikely = right * F.softplus(-curve) + (pixels - right) * F.softplus(curve)
        total = unlikely.sum() / pixels.sum() + _PULL * (values - start).square().sum()
        total.backward()
        assert values.grad is not None
        values.grad *= free
        return total

    optimiser.step(loss)
    fitted = values.tolist()
    return fitted[0], fitted[1], fitted[2]


def _bins(
    confidence: NDArray, weights: NDArray, right: NDArray, groups: Sequence[NDArray]
) -> tuple[ReliabilityBin, ...]:
    """One bin per group of indices. weights: how many each entry stands for; right: how many of those are right."""
    return tuple(
        ReliabilityBin(
            confidence=float(np.average(confidence[group], weights=weights[group])),
            accuracy=float(right[group].sum() / weights[group].sum()),
            share=float(weights[group].sum() / weights.sum()),
        )
        for group in groups
        if weights[group].sum() > 0
    )


def _ece(bins: Sequence[ReliabilityBin]) -> float:
    return sum(entry.share * abs(entry.confidence - entry.accuracy) for entry in bins)
