"""What the training of a propagation minimises, on clips: `ClipLoss`, which holds it and returns its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.models.propagation import Propagation, with_gain
from gsvnet.models.segmenter import Normalise
from gsvnet.training.clips import Clip
from gsvnet.training.losses import distillation_loss, still_loss


def flow_loss(flows: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error, (), of flows (..., 2, h, w) where the true ones are known (not NaN), in pixels; else 0."""
    counted = known.isfinite()
    error = (flows - torch.where(counted, known, 0.0)).abs() * counted
    return error.sum() / counted.sum().clamp(min=1)


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
