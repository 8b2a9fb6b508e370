"""What a training minimises: cross-entropy to true labels, divergence from a teacher's soft ones, and where both meet.

`StillLoss` and `ClipLoss` hold the network that is trained and return its loss, so that a training on several GPUs
wraps one module, and every gradient passes through its forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.classes import IGNORE
from gsvnet.models.gsvnet import Propagation, with_gain
from gsvnet.models.segmenter import Normalise
from gsvnet.nn.blocks import resize
from gsvnet.training.checks import LabelLoss
from gsvnet.training.clips import Clip


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

    The mean over images and classes, as AR-Seg's authors train PSPNet on CamVid.
    """
    present = torch.stack([(targets == label).flatten(1).any(dim=1) for label in range(presence.shape[1])], dim=1)
    return F.binary_cross_entropy_with_logits(presence, present.to(presence.dtype))


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


def flow_loss(flows: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error, (), of flows (..., 2, h, w) where the true ones are known (not NaN), in pixels; else 0."""
    counted = known.isfinite()
    error = (flows - torch.where(counted, known, 0.0)).abs() * counted
    return error.sum() / counted.sum().clamp(min=1)


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


class ClipLoss(nn.Module):
    """The loss of a propagation on clips: cross-entropy at twice the grid + distillation * KL on the grid
    + flow_supervision * error of the flow, where the true one is known.

    last_steps: how many steps of a clip are learned from, 0 for all. The steps before them run in evaluation mode and
    without gradient: the rule of GSVNet's authors, whose number is 2. (They leave their flow network in training mode.)
    align_corners: corner convention of the keyframe's logits, and so of all that follow from them.
    """

    def __init__(
        self,
        propagation: Propagation,
        normalise: Normalise,
        weights: Tensor,
        *,
        distillation: float = 0.0,
        flow_supervision: float = 0.0,
        last_steps: int = 0,
        align_corners: bool = False,
        bf16: bool = True,
    ) -> None:
        super().__init__()
        self.propagation, self.normalise, self.align_corners = propagation, normalise, align_corners
        self.distillation, self.flow_supervision = distillation, flow_supervision
        self.last_steps, self.bf16 = last_steps, bf16
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(self, clips: Sequence[Clip]) -> Tensor:
        """(), float32: the mean over the frames that are learned from, of clips of one length T and one grid."""
        device = self.weights.device
        frames = self.normalise(torch.stack([clip.frames for clip in clips]).to(device))  # (B, T, 3, h, w)
        length, (h, w) = frames.shape[1], frames.shape[-2:]
        first = max(0, length - 1 - self.last_steps) if self.last_steps else 0
        state = with_gain(torch.stack([clip.keyframe_logits for clip in clips]).to(device))
        if first:
            state = self._advance_without_learning(state, frames[:, : first + 1])
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            states, flows = advance(self.propagation, state, frames[:, first:])
        targets = self._resize_targets(clips, (2 * h, 2 * w)).to(device)
        learned = list(zip(range(first + 1, length), states))
        loss = torch.stack([self._hard_loss(state, targets[:, t]) for t, state in learned]).mean()
        if self.distillation:
            teacher = _stack_teachers(clips).to(device)
            softly = [distillation_loss(state[:, :-1], teacher[:, t]) for t, state in learned]
            loss = loss + self.distillation * torch.stack(softly).mean()
        if self.flow_supervision:
            known = _stack_flows(clips).to(device)[:, first:]
            loss = loss + self.flow_supervision * flow_loss(flows, known)
        return loss

    def _resize_targets(self, clips: Sequence[Clip], size: tuple[int, int]) -> Tensor:
        resized = [resize_labels(clip.targets, size, align_corners=self.align_corners) for clip in clips]
        return torch.stack(resized).long()

    def _hard_loss(self, state: Tensor, targets: Tensor) -> Tensor:
        return still_loss(state[:, :-1], targets, self.weights, align_corners=self.align_corners)

    @torch.no_grad()
    def _advance_without_learning(self, state: Tensor, frames: Tensor) -> Tensor:
        was_training = self.propagation.training
        self.propagation.eval()
        # not the region of the learned steps: torch before 2.10 would reuse its casts of the weights, without gradient
        with torch.autocast(state.device.type, torch.bfloat16, enabled=self.bf16):
            states, _ = advance(self.propagation, state, frames)
        self.propagation.train(was_training)
        return states[-1]


def advance(propagation: Propagation, state: Tensor, frames: Tensor) -> tuple[list[Tensor], Tensor]:
    """States (B, C + 1, h, w) and flows (B, T - 1, 2, h, w) of frames 1..T-1, from the state of frame 0.

    frames: (B, T, 3, h, w), normalised.
    """
    steps = frames.shape[1] - 1
    current, previous = frames[:, 1:].flatten(0, 1), frames[:, :-1].flatten(0, 1)
    flows = propagation.estimate_flow(current, previous).unflatten(0, (-1, steps))
    intras = propagation.glance(current)
    intras = None if intras is None else intras.unflatten(0, (-1, steps))
    states = []
    for t in range(steps):
        state = propagation.step(state, flows[:, t], None if intras is None else intras[:, t])
        states.append(state)
    return states, flows


def resize_labels(labels: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Labels (T, H, W) at another size, nearest."""
    if tuple(labels.shape[-2:]) == size:
        return labels
    if align_corners:
        rows, columns = (torch.linspace(0, n - 1, m).round().long() for n, m in zip(labels.shape[-2:], size))
        return labels[:, rows][..., columns]
    return F.interpolate(labels[:, None], size, mode="nearest-exact")[:, 0]


def _stack_teachers(clips: Sequence[Clip]) -> Tensor:
    """(B, T, C, h, w); a clip without a teacher has one that is nowhere known."""
    teachers = []
    for clip in clips:
        nowhere = clip.keyframe_logits.new_full((len(clip.frames), *clip.keyframe_logits.shape), float("nan"))
        teachers.append(nowhere.half() if clip.teacher is None else clip.teacher)
    return torch.stack(teachers)


def _stack_flows(clips: Sequence[Clip]) -> Tensor:
    """(B, T - 1, 2, h, w); a clip without known flow has NaN everywhere."""
    flows = []
    for clip in clips:
        nowhere = clip.frames.new_full((len(clip.frames) - 1, 2, *clip.frames.shape[-2:]), float("nan"))
        flows.append(nowhere if clip.flow is None else clip.flow)
    return torch.stack(flows)
