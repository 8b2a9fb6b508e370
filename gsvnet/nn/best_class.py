"""The winning class of every pixel, several times faster than `argmax` on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor


def best_class(logits: Tensor) -> Tensor:
    """Class ids (N, h, w) uint8 of logits (N, C, h, w), C <= 255: `logits.argmax(1)` where no logit is NaN.

    Ties go to the lowest class. Where a pixel has a NaN, the last class stands.
    """
    num_classes = logits.shape[1]
    assert num_classes <= 255, num_classes
    best = logits.amax(1, keepdim=True)
    countdown = torch.arange(num_classes, 0, -1, dtype=torch.uint8, device=logits.device).view(-1, 1, 1)
    return num_classes - ((logits == best) * countdown).amax(1).clamp(min=1)
