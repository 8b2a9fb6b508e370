"""How sure a network is of a frame: a few numbers from its logits, on its own grid.

What a network says of itself is the top-1 softmax probability. A `Calibration`, measured where the truth is known,
turns it into the share of places that are right where the network says so: one logistic curve for all classes
(J. Platt, "Probabilistic outputs for support vector machines", 1999), moved with the distance from the keyframe. It
keeps the order of the places of a frame, and labels do not depend on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from gsvnet.errors import ModelError

_LEAST_ODDS = 1e-7  # against the top class: float32 knows no smaller number beside 1
_LIMITS = {"slope": (0.01, 100.0), "shift": (-100.0, 100.0), "shift_per_frame": (-10.0, 10.0), "farthest": (0, 10_000)}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From a network's own probability to the share that is right; with the defaults nothing changes.

    log odds = slope * own log odds + shift + shift_per_frame * min(distance, farthest). The distance is in frames from
    the keyframe that the labels draw on; farthest: the largest that was measured, beyond which nothing is assumed.
    Raises ModelError for values that are no numbers or far from any that could have been measured.
    """

    slope: float = 1.0
    shift: float = 0.0
    shift_per_frame: float = 0.0
    farthest: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            kind = int if name == "farthest" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise ModelError(f"calibration: {name} is {value!r}; allowed: {low:g} to {high:g}")

    def to_dict(self) -> dict:
        """Plain JSON-ready form; the constructor takes it as keywords."""
        return asdict(self)

    def shift_at(self, distance: Tensor) -> Tensor:
        """(N,) float32: what is added to the log odds at distances (N,) from the keyframe."""
        return self.shift + self.shift_per_frame * distance.clamp(max=self.farthest).float()


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Of N frames, each float32 in 0..1: the share of places that are expected to be labeled rightly.

    mean: (N,), over the grid. p05: (N,), the 5th percentile, a value that occurs: the lower nearest rank, element
    floor(0.05 * (h*w - 1)), from 0, in order. by_class: (N, C), over the places labeled with each class; NaN where
    there are none. Without a calibration it is what the network says of itself.
    """

    mean: Tensor
    p05: Tensor
    by_class: Tensor


def measure_confidence(
    logits: Tensor,
    *,
    gain: Tensor | None = None,
    calibration: Calibration | None = None,
    distance: Tensor | None = None,
) -> Confidence:
    """How sure a network is of N frames and of each class in them.

    logits, gain: as of `top_probability`. distance: (N,), frames to the keyframe; None: all are keyframes. A place has
    the lowest of the classes with the largest logit, as labels have. The same input gives the same numbers.
    """
    logits = _planes_apart(logits)
    probability, label = _best_of(logits, gain)
    if calibration is not None:
        probability = calibrate(probability, calibration, distance)
    return Confidence(
        mean=probability.mean(1),
        p05=probability.kthvalue((probability.shape[1] - 1) // 20 + 1, dim=1).values,
        by_class=_mean_by_label(probability, label, logits.shape[1]),
    )


def top_probability(logits: Tensor, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Top-1 softmax probability (N, h*w) float32, and which class has it (N, h*w) uint8, the lowest of equal ones.

    logits: (N, C, h, w) float, C <= 255. gain: (N, 1, h, w), the factor >= 0 by which propagation has scaled the
    logits; it is divided out, since GSVNet's dead filter tap shrinks the logits at every step without the network being
    less sure. Where it is 0 nothing is known: the probability is 1/C.
    """
    return _best_of(_planes_apart(logits), gain)


def calibrate(probability: Tensor, calibration: Calibration, distance: Tensor | None = None) -> Tensor:
    """(N, M) float32: the share that is right where a network gives its label these probabilities (N, M).

    distance: (N,), frames to the keyframe; None: 0 everywhere.
    """
    if distance is None:
        distance = torch.zeros(len(probability))
    shift = calibration.shift_at(distance).to(probability.device)[:, None]
    odds_against = (1 / probability - 1).clamp_(min=_LEAST_ODDS)
    return odds_against.log_().mul_(-calibration.slope).add_(shift).sigmoid_()  # finite, whatever the calibration


def _planes_apart(logits: Tensor) -> Tensor:
    """Float32 logits, planes apart: with the classes side by side, reductions over them take longer than this copy."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format).contiguous()


def _best_of(logits: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    num_classes = logits.shape[1]
    behind = logits - logits.amax(1, keepdim=True)
    downwards = torch.arange(num_classes, 0, -1, dtype=torch.uint8, device=logits.device).view(-1, 1, 1)
    # argmax takes 10 times longer. Where logits are no numbers no class is best, and it is the last one.
    label = num_classes - ((behind == 0).view(torch.uint8) * downwards).amax(1).clamp_(min=1).flatten(1)
    if gain is not None:
        gain = gain.float()
        behind /= torch.where(gain > 0, gain, torch.inf)
    # The top class has exp(0) above the sum: softmax without its second pass. What is far behind adds nothing to a sum
    # of at least 1, but exp is slow where it gives denormal numbers.
    return 1 / behind.clamp_(min=-64).exp_().sum(1).flatten(1), label


def _mean_by_label(values: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(N, C) float32: mean of values (N, M) where labels (N, M) are each class; NaN where none is."""
    num_bins = len(values) * num_classes
    bins = (labels.long() + num_classes * torch.arange(len(values), device=labels.device)[:, None]).flatten()
    counts = torch.bincount(bins, minlength=num_bins)
    sums = torch.bincount(bins, values.double().flatten(), minlength=num_bins)  # in float32 the order would matter
    return (sums / counts).view(-1, num_classes).float()
