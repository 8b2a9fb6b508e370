"""TDNet over runs of N frames, with gradients: what each sub-network sees, gathers and labels, and what that costs.

Every run has one frame of each sub-network, so that a sub-network's trunk runs once per step, over one frame of every
run, and every one of its frames can ask the N - 1 others of its run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gsvnet.models.sub_network import Memory
from gsvnet.models.tdnet import TDNet
from gsvnet.nn.blocks import ConvUnit
from gsvnet.training.checks import LabelLoss
from gsvnet.training.losses import distillation_loss, label_loss
from gsvnet.training.tdnet_runs import RunBatch
from gsvnet.training.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one sub-network makes of its frames, one of each of B runs. middle: (B, middle_channels, h, w), from the
    middle of its trunk; query, value: (B, 64 or D, h, w); memory: what others take over of them."""

    middle: Tensor
    query: Tensor
    value: Tensor
    memory: Memory


def take_frames(x: Tensor, turn: int) -> Tensor:
    """(B, ...) of x (B, N, ...): of each run the frame of sub-network `turn`. The last of run b is that of b mod N."""
    rows, num_frames = torch.arange(len(x), device=x.device), x.shape[1]
    return x[rows, (turn - rows - 1) % num_frames]


def look(model: TDNet, images: Tensor) -> list[Seen]:
    """What every sub-network sees of runs (B, N, 3, h, w), in the order of their turns."""
    return [_look(model, turn, take_frames(images, turn)) for turn in range(model.num_sub_networks)]


def _look(model: TDNet, turn: int, frames: Tensor) -> Seen:
    """All convolutions run once over all frames; `SubNetwork.remember` thins before them, which is the same but for
    what batch norms see in training."""
    sub, stride = model.sub(turn), model.memory_stride
    pixels = model.normalise(frames).contiguous(memory_format=torch.channels_last)
    feature, middle = sub.trunk.extract_with_middle(pixels)
    query, key, value = sub.query(feature), sub.key(feature[..., ::stride, ::stride]), sub.value(feature)
    memory = Memory(query=query[..., ::stride, ::stride], key=key, value=value[..., ::stride, ::stride])
    return Seen(middle=middle, query=query, value=value, memory=memory)


def label_both(model: TDNet, seen: Sequence[Seen], turn: int, rows: slice) -> tuple[Tensor, Tensor]:
    """Logits (n, C, h, w) of sub-network `turn`'s frames in the runs `rows`: gathered from the others, and alone.

    The head sees both at once, so that what its batch norms learn of the world serves either.
    """
    sub, own = model.sub(turn), seen[turn]
    others = [seen[(turn + j) % len(seen)].memory for j in range(1, len(seen))]
    memories = [Memory(query=m.query[rows], key=m.key[rows], value=m.value[rows]) for m in others]
    value = own.value[rows]
    logits = sub.label(torch.cat([value + sub.gather(own.query[rows], memories), value])).float()
    full, alone = logits.chunk(2)
    return full, alone


def choose_rows(turn: int, num_sub_networks: int, *, every_frame: bool) -> slice:
    """The runs of which sub-network `turn` labels its frame: all, or those that end with it."""
    return slice(None) if every_frame else slice(turn, None, num_sub_networks)


def build_auxiliary_heads(model: TDNet) -> nn.ModuleList:
    """New heads on the middle of each trunk, which only training uses: (n, middle_channels, h, w) -> logits."""
    middle = model.sub(0).trunk.middle_channels
    return nn.ModuleList(
        nn.Sequential(ConvUnit(middle, min(64, middle)), nn.Conv2d(min(64, middle), len(model.classes), 1))
        for _ in range(model.num_sub_networks)
    )


class TdnetLoss(nn.Module):
    """The losses of a batch of runs, section 3.3 of the paper: of labels, and of what a teacher makes of the frames.

    auxiliary: of `build_auxiliary_heads`. every_frame: False labels the last frame of each run alone.
    alone_distillation: how much what a sub-network makes of a frame alone counts in the divergence from the teacher.
    """

    def __init__(
        self,
        model: TDNet,
        auxiliary: nn.ModuleList,
        weights: Tensor,
        *,
        loss: LabelLoss = "cross-entropy",
        every_frame: bool = False,
        teacher: Teacher | None = None,
        alone_distillation: float = 0.5,
        bf16: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.auxiliary = model, auxiliary
        self.loss, self.every_frame, self.bf16 = loss, every_frame, bf16
        self.alone_distillation = alone_distillation
        self.teacher = teacher
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(self, batch: RunBatch) -> Tensor:
        """(4,) float32: label losses gathered, alone and of the auxiliary heads, and the divergence from the teacher.

        The number of runs is a multiple of that of sub-networks, so that each labels as many.
        """
        device = batch.images.device.type
        answers, targets, divergences = [], [], []
        turns = range(self.model.num_sub_networks)
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            seen = look(self.model, batch.images)
            for turn in turns:
                rows = choose_rows(turn, len(turns), every_frame=self.every_frame)
                full, alone = label_both(self.model, seen, turn, rows)
                answers.append((full, alone, self.auxiliary[turn](seen[turn].middle[rows]).float()))
                targets.append(take_frames(batch.targets, turn)[rows].long())
        for turn in turns:
            rows = choose_rows(turn, len(turns), every_frame=self.every_frame)
            divergences.append(self._diverge(turn, take_frames(batch.images, turn)[rows], *answers[turn][:2]))
        truth = torch.cat(targets)
        labels = [self._label_loss(torch.cat(logits), truth) for logits in zip(*answers)]
        return torch.stack([*labels, torch.stack(divergences).mean()])

    def _label_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return label_loss(self.loss, logits, targets, self.weights, align_corners=self.model.align_corners)

    def _diverge(self, turn: int, images: Tensor, full: Tensor, alone: Tensor) -> Tensor:
        """KL(teacher || full) + alone_distillation * KL(teacher's group || alone), (); 0 without a teacher."""
        if self.teacher is None:
            return full.new_zeros(())
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            whole, group = self.teacher.with_group(images.float(), turn, self.model.num_sub_networks)
        corners = self.model.align_corners
        divergence = distillation_loss(full, whole, align_corners=corners)
        return divergence + self.alone_distillation * distillation_loss(alone, group, align_corners=corners)
