"""A frozen network whose soft labels another one learns from (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.segmenter import Normalise
from gsvnet.models.transfer import image_network_of

NUM_GROUPS = (2, 4)  # of channels that PSPNet-101 can tell apart


class Teacher(nn.Module):
    """A keyframe network that sees what the student sees, in its own normalisation and at its own scale.

    scale: how much larger than the student's view its own is; a network that labels at 512 rows teaches students of
    360 rows at 512 / 360.
    """

    def __init__(self, net: nn.Module, normalise: Normalise, *, scale: float = 1.0, align_corners: bool = True) -> None:
        super().__init__()
        self.net, self.normalise, self.scale, self.align_corners = net, normalise, scale, align_corners
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C, H, W) float32 of RGB images (B, 3, H, W) in 0..255."""
        return self._enlarge(self.net(self._read(images)), images)

    @torch.no_grad()
    def with_group(self, images: Tensor, turn: int, num_groups: int) -> tuple[Tensor, Tensor]:
        """Logits (B, C, H, W) float32, and those that teach TDNet's sub-network `turn` of `num_groups` alone.

        The latter are of that sub-network's group of channels, where the network tells groups apart (PSPNet-101, 2 or 4
        of them); else they are the same.
        """
        segment = getattr(self.net, "segment_with_groups", None)
        if segment is None or num_groups not in NUM_GROUPS:
            logits = self(images)
            return logits, logits
        whole, groups = segment(self._read(images), num_groups)
        return self._enlarge(whole, images), self._enlarge(groups[turn], images)

    def _read(self, images: Tensor) -> Tensor:
        """Images at the teacher's own scale, normalised."""
        size = (images.shape[-2], images.shape[-1])
        own = (round(size[0] * self.scale), round(size[1] * self.scale))
        if own != size:
            images = F.interpolate(images, own, mode="bilinear", align_corners=False, antialias=self.scale < 1)
        return self.normalise(images).contiguous(memory_format=torch.channels_last)

    def _enlarge(self, logits: Tensor, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        return F.interpolate(logits.float(), size, mode="bilinear", align_corners=self.align_corners)


def load_teacher(path: Path, classes: ClassSet, size: tuple[int, int]) -> Teacher:
    """The keyframe network of a checkpoint as the teacher of students that read frames at `size` (height, width).

    Raises ModelError when its classes are others.
    """
    model = load_checkpoint(path)
    if model.classes.names != classes.names:
        raise ModelError(
            f"--teacher {path}: its classes are {model.classes.name} ({len(model.classes)}); "
            f"the student's are {classes.name} ({len(classes)})"
        )
    scale = model.needs(*size).keyframe_size[0] / size[0]
    image = image_network_of(model)
    return Teacher(image.net, image.normalise, scale=scale, align_corners=image.align_corners)
