"""The loss of an image network that learns from stills and, beside them, from pairs of neighbouring frames.

Liu et al., "Efficient Semantic Video Segmentation with Per-frame Inference", ECCV 2020: temporal consistency, and with
a teacher also its soft labels of both frames, pair-wise-frame dependency and multi-frame dependency.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.nn.blocks import resize
from gsvnet.training.checks import ConsistencyForm
from gsvnet.training.frame_relations import SequenceLoss, pair_loss
from gsvnet.training.losses import StillLoss, distillation_loss
from gsvnet.training.temporal_losses import consistency_loss, published_motion_loss

_PAIR_POOL, _SEQUENCE_POOL = 2, 4  # places of the logits' map, per side


@dataclass(frozen=True, kw_only=True)
class SeenPairs:
    """What a step shows of B pairs. pixels: (2 B, 3, H, W) normalised, first B frames, then their partners.

    flow: (B, 2, h, w), as in `pairs`. teacher: logits (2 B, C, H, W) of all of them, None without a teacher.
    """

    pixels: Tensor
    flow: Tensor
    teacher: Tensor | None = None


class PairedLoss(nn.Module):
    """`StillLoss` of stills + consistency * `consistency_loss` of pairs, through the network in one call: one set of
    statistics of its batch norms.

    consistency_form: "published" is `published_motion_loss`. With a teacher also its divergence on the frames of pairs,
    weighed as on stills, + pair_weight * `pair_loss` + sequence_weight * `SequenceLoss` of logits, which follows from
    `seed`.
    """

    def __init__(
        self,
        stills: StillLoss,
        *,
        consistency: float,
        consistency_form: ConsistencyForm = "sound",
        pair_weight: float = 0.0,
        sequence_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.stills, self.consistency, self.consistency_form = stills, consistency, consistency_form
        self.pair_weight, self.sequence_weight = pair_weight, sequence_weight
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sequence_loss = SequenceLoss(pool=_SEQUENCE_POOL)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what `forward` returns after the first number; they are not yet weighed."""
        counted = {"pair": self.pair_weight, "sequence": self.sequence_weight}
        return ("consistency", *(name for name, weight in counted.items() if weight))

    def forward(self, pixels: Tensor, targets: Tensor, teacher: Tensor | None, pairs: SeenPairs) -> Tensor:
        """(1 + len(parts),): what is minimised, and its `parts`. The first three arguments: as of `StillLoss`."""
        heads, presence = self.stills.segment(torch.cat([pixels, pairs.pixels]))
        count = len(pixels)
        loss = self.stills.score(
            tuple(logits[:count] for logits in heads), None if presence is None else presence[:count], targets, teacher
        )
        logits = heads[0][count:].float()
        parts = [self._measure_consistency(logits, pairs)]
        if self.consistency:
            loss = loss + self.consistency * parts[0]
        if pairs.teacher is not None:
            loss = loss + self.stills.distillation * distillation_loss(logits, pairs.teacher)
            for weight, part in self._relate(logits, pairs.teacher):
                loss = loss + weight * part
                parts.append(part)
        return torch.stack([loss, *(part.detach() for part in parts)])

    def _measure_consistency(self, logits: Tensor, pairs: SeenPairs) -> Tensor:
        now, then = logits.chunk(2)
        if self.consistency_form == "sound":
            return consistency_loss(now, then, pairs.flow, align_corners=False)
        size = (pairs.pixels.shape[-2], pairs.pixels.shape[-1])
        longer = [n / m for n, m in zip(size[::-1], (pairs.flow.shape[-1], pairs.flow.shape[-2]))]
        flow = resize(pairs.flow, size, align_corners=False) * pairs.flow.new_tensor(longer).view(2, 1, 1)
        now, then = (resize(x, size, align_corners=False) for x in (now, then))
        images, partners = pairs.pixels.chunk(2)
        return published_motion_loss(now, then, images, partners, flow)

    def _relate(self, logits: Tensor, teacher: Tensor) -> list[tuple[float, Tensor]]:
        """Weight and loss of what the teacher knows of both frames together, on the student's grid."""
        small = F.adaptive_avg_pool2d(teacher, (logits.shape[-2], logits.shape[-1]))
        (now, then), (known, known_then) = logits.chunk(2), small.chunk(2)
        parts = []
        if self.pair_weight:
            parts.append((self.pair_weight, pair_loss((now, then), (known, known_then), pool=_PAIR_POOL)))
        if self.sequence_weight:
            parts.append((self.sequence_weight, self.sequence_loss((then, now), (known_then, known))))
        return parts
