"""What a student can learn from its teacher about frames together: which places look alike, in a frame and across them.

Liu et al., "Efficient Semantic Video Segmentation with Per-frame Inference", ECCV 2020: pair-wise-frame dependency and
multi-frame dependency. Student and teacher may differ in channels, for only similarities are compared, but not in size.
A similarity of all N = h * w places to all others takes 4 N^2 bytes per image, of each of both: 29 MB for a map of
45 x 60, 0.5 GB for one of 90 x 120. `pool` makes the maps smaller first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.training.conv_lstm import ConvLSTM

_LEAST_LENGTH = 1e-6  # of a feature, where a cosine divides by it


def similarities(current: Tensor, other: Tensor) -> Tensor:
    """(B, N, N) cosines in -1..1 of every place of `current` to every place of `other`, (B, C, h, w) features each.

    0 where a feature is zero. Row i is place i of `current`, row by row of the map.
    """
    here, there = (F.normalize(x.float().flatten(2), dim=1, eps=_LEAST_LENGTH) for x in (current, other))
    return _products(here, there)


def published_similarities(current: Tensor, other: Tensor) -> Tensor:
    """(B, N, N): `similarities` as ETC's code has them across frames (CriterionSDcos_sig), with a wrong divisor.

    The product of place i of `current` and place j of `other` is divided by the lengths of place i of `other` and place
    j of `current`. So it is no cosine, and not bounded by 1. Of one frame with itself both are the same.
    """
    here, there = current.float().flatten(2), other.float().flatten(2)
    lengths = there.norm(dim=1)[:, :, None] * here.norm(dim=1)[:, None]
    return _products(here, there) / lengths.clamp(min=_LEAST_LENGTH**2)


def pair_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], *, pool: int = 1, published: bool = False
) -> Tensor:
    """Mean squared difference, (), of student's and teacher's similarities between two frames: pair-wise dependency.

    student, teacher: features or logits (B, C, h, w) of the frame and of its neighbour. published: divide as ETC's code
    does.
    """
    relate = published_similarities if published else similarities
    own, wanted = (relate(*(_pooled(x, pool) for x in frames)) for frames in (student, teacher))
    return F.mse_loss(own, wanted)


def self_loss(student: Tensor, teacher: Tensor, *, pool: int = 2) -> Tensor:
    """Mean squared difference, (), of student's and teacher's similarities within one frame (CriterionSDcos_self)."""
    return pair_loss((student, student), (teacher, teacher), pool=pool)


class SequenceLoss(nn.Module):
    """How differently a memory remembers what student and teacher see over several frames: multi-frame dependency.

    The similarities within each frame, N x N, go through one ConvLSTM as a map of one channel, frame after frame; the
    loss is the mean squared difference of its last cells plus that of its last hidden states (CriterionLSTM). The
    ConvLSTM keeps its random weights: were it trained to make this small, it would learn to see nothing.
    """

    def __init__(self, *, channels: int = 4, pool: int = 16) -> None:
        super().__init__()
        self.pool = pool
        self.memory = ConvLSTM(in_channels=1, channels=channels).requires_grad_(False)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """(), of features (B, C, h, w) of each frame in order, as many of the student as of the teacher."""
        (own_hidden, own_cell), (hidden, cell) = (self._remember(frames) for frames in (student, teacher))
        return F.mse_loss(own_cell, cell) + F.mse_loss(own_hidden, hidden)

    def _remember(self, frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        small = [_pooled(x, self.pool) for x in frames]
        with torch.autocast(small[0].device.type, enabled=False):
            return self.memory(similarities(x, x)[:, None] for x in small)


def _products(here: Tensor, there: Tensor) -> Tensor:
    """(B, N, N) of (B, C, N) each; in float32 even under autocast, whose steps of 1/256 are half of what is learned."""
    with torch.autocast(here.device.type, enabled=False):
        return here.transpose(1, 2) @ there


def _pooled(x: Tensor, pool: int) -> Tensor:
    """Means over squares of `pool` x `pool` places; what does not fill one at the right or below is left out."""
    return F.avg_pool2d(x.float(), pool) if pool > 1 else x
