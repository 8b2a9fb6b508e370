"""What a training minimises: cross-entropy to true labels, divergence from a teacher's soft ones, and where both meet.

`StillLoss`, like `ClipLoss` of `clip_loss.py`, holds the network that is trained and returns its loss, so that a
training on several GPUs wraps one module, and every gradient passes through its forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.classes import IGNORE
from gsvnet.nn.blocks import resize
from gsvnet.training.checks import LabelLoss


def still_loss(logits: Tensor, targets: Tensor, weights: Tensor, *, align_corners: bool = False) -> Tensor:
    """Class-weighted cross-entropy, (), of (B, C, h, w) logits resized to (B, H, W) targets; 255 is ignored.

    The weighted mean over labelled pixels; 0, and not NaN, where no pixel is.
    """
    full = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=align_corners)
    total = F.cross_entropy(full, targets, weight=weights, ignore_index=IGNORE, reduction="sum")
    return total / weights[targets[targets != IGNORE]].sum().clamp(min=1e-6)


def ohem_loss(
    logits: Tensor, targets: Tensor, *, threshold: float = 0.7, min_kept: int | None = None, align_corners: bool = False
) -> Tensor:
    """Mean cross-entropy, (), of the hard pixels alone: (B, C, h, w) logits resized to (B, H, W) targets, int64.

    Hard is a pixel whose true class has a probability below `threshold`; at least `min_kept` pixels count, the worst
    ones; default: a 16th of the labelled. 255 is ignored; 0, and not NaN, where no pixel is labelled. As AR-Seg's
    authors train BiSeNet (Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
    Mining", CVPR 2016).
    """
    full = resize(logits, targets.shape[-2:], align_corners=align_corners)
    losses = F.cross_entropy(full, targets, ignore_index=IGNORE, reduction="none").flatten()
    num_labelled = int((targets != IGNORE).sum())
    least = num_labelled // 16 if min_kept is None else min(min_kept, num_labelled)
    hard = losses[losses > -math.log(threshold)]
    if len(hard) < least:
        hard = losses.topk(least).values
    return hard.sum() / max(1, len(hard))


def label_loss(
    kind: LabelLoss, logits: Tensor, targets: Tensor, weights: Tensor, *, align_corners: bool = False
) -> Tensor:
    """`still_loss` ("cross-entropy") or `ohem_loss` ("ohem"), which knows no class weights."""
    if kind == "ohem":
        return ohem_loss(logits, targets, align_corners=align_corners)
    return still_loss(logits, targets, weights, align_corners=align_corners)


def presence_loss(presence: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, (), of logits (B, C) of each class being anywhere in an image, to labels (B, H, W) int64.

    The mean over classes and those images that have a label, as AR-Seg's authors train PSPNet on CamVid.
    """
    present = torch.stack([(targets == label).flatten(1).any(dim=1) for label in range(presence.shape[1])], dim=1)
    losses = F.binary_cross_entropy_with_logits(presence, present.to(presence.dtype), reduction="none").mean(dim=1)
    labelled = (targets != IGNORE).flatten(1).any(dim=1)
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)


def distillation_loss(logits: Tensor, teacher: Tensor, *, align_corners: bool = False) -> Tensor:
    """KL(teacher || student), (), in nats: the mean over pixels of the sum over classes, at temperature 1.

    logits: (B, C, h, w), the student's, resized to the teacher's (B, C, H, W). Pixels where the teacher is not finite
    do not count. The authors of GSVNet average over classes too and weigh that by 10: their weight per pixel is 10 / C.
    """
    known = teacher.isfinite().all(dim=1)
    student = F.log_softmax(
        F.interpolate(logits, teacher.shape[-2:], mode="bilinear", align_corners=align_corners).float(), dim=1
    )
    wanted = F.log_softmax(torch.where(known[:, None], teacher.float(), 0.0), dim=1)
    divergence = F.kl_div(student, wanted, reduction="none", log_target=True).sum(dim=1)
    return (divergence * known).sum() / known.sum().clamp(min=1)


class StillLoss(nn.Module):
    """The loss of an image network on views: `label_loss` of each of its heads + distillation * KL to a teacher.

    A network that also tells which classes are there adds `presence_loss`.
    """

    parts: tuple[str, ...] = ()  # of its result; it is one number

    def __init__(
        self, net: nn.Module, weights: Tensor, *, distillation: float, bf16: bool, loss: LabelLoss = "cross-entropy"
    ) -> None:
        """weights: (C,), of the classes. bf16: run the network in mixed precision."""
        super().__init__()
        self.net, self.distillation, self.bf16, self.loss = net, distillation, bf16, loss
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(self, pixels: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
        """(), for normalised views (B, 3, H, W), labels (B, H, W) int64, and the teacher's logits (B, C, H, W)."""
        return self.score(*self.segment(pixels), targets, teacher)

    def segment(self, pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """What the network says of normalised views (B, 3, H, W), as `score` takes it.

        Logits of every head, the one that labels first, and those of presence where the network tells that.
        """
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.bf16):
            return self._segment(pixels)

    def score(
        self, heads: Sequence[Tensor], presence: Tensor | None, targets: Tensor, teacher: Tensor | None
    ) -> Tensor:
        """(), of what `segment` gave; targets and teacher: as of `forward`."""
        loss = torch.stack([label_loss(self.loss, logits.float(), targets, self.weights) for logits in heads]).sum()
        if presence is not None:
            loss = loss + presence_loss(presence.float(), targets)
        if teacher is not None:
            loss = loss + self.distillation * distillation_loss(heads[0].float(), teacher)
        return loss

    def _segment(self, pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """As `segment`. Auxiliary heads count like the one that labels, as published for BiSeNet."""
        if getattr(self.net, "has_auxiliary_heads", False):
            return self.net.segment_with_auxiliary(pixels), None  # type: ignore[operator]
        if getattr(self.net, "presence_head", None) is not None:
            logits, presence = self.net.segment_with_presence(pixels)  # type: ignore[operator]
            return (logits,), presence
        return (self.net(pixels),), None
