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
        size = (images.shape[-2], images.shape[-1])
        own = (round(size[0] * self.scale), round(size[1] * self.scale))
        if own != size:
            images = F.interpolate(images, own, mode="bilinear", align_corners=False, antialias=self.scale < 1)
        pixels = self.normalise(images).contiguous(memory_format=torch.channels_last)
        return F.interpolate(self.net(pixels).float(), size, mode="bilinear", align_corners=self.align_corners)


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
