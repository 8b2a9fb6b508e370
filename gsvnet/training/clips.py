"""Short clips to learn propagation from: stills set in known motion, and runs of video frames.

A clip is what GSVNet sees when it labels: the keyframe's logits and the frames on the propagation grid. Keyframe logits
come from the frozen keyframe network and are computed once per image, not once per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.segmenter import Normalise
from gsvnet.training.stills import Stills, jitter_colours


@dataclass(frozen=True, kw_only=True)
class Clip:
    """keyframe_logits (C, h, w) float, frames (T, 3, h, w) float RGB in 0..255 on the same grid (the keyframe first),
    targets (T, H, W) uint8 labels with 255 = ignore.

    teacher: (T, C, h, w) float16, the logits that each frame should come near; NaN where they are not known.
    flow: (T - 1, 2, h, w) float, the true flow of frames 1..T-1 to the frame before, (dx, dy) in pixels of the grid;
    NaN where it is not known.
    """

    keyframe_logits: Tensor
    frames: Tensor
    targets: Tensor
    teacher: Tensor | None = None
    flow: Tensor | None = None


@torch.no_grad()
def compute_logits(network: nn.Module, normalise: Normalise, images: Tensor, *, batch_size: int = 8) -> Tensor:
    """(N, C, h, w) float16 logits, on the CPU, of images (N, 3, H, W) in 0..255, by a frozen network."""
    device = normalise.mean.device
    return torch.cat([network(normalise(batch.to(device))).half().cpu() for batch in images.split(batch_size)])


def to_grid(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., 3, H, W) in 0..255 averaged to (..., 3, h, w) float, with the whole numbers that a decoder gives."""
    return resize_image(images, grid, "area").float()


def flow_to_grid(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow (B, 2, H, W) on a coarser grid (h, w): (B, 2, h, w) float32 in that grid's pixels.

    The mean over the pixels of each cell whose flow is known; NaN where those are less than half.
    """
    known = flow.isfinite().all(dim=1, keepdim=True)
    share = F.adaptive_avg_pool2d(known.float(), size)
    mean = F.adaptive_avg_pool2d(torch.where(known, flow.float(), 0.0), size) / share.clamp(min=1e-6)
    (height, width), (h, w) = flow.shape[-2:], size
    mean = mean * mean.new_tensor([w / width, h / height]).view(2, 1, 1)
    return torch.where(share >= 0.5, mean, float("nan"))


class StillClips:
    """Clips made from labelled stills: the still is the keyframe, later frames are the still seen from a moving camera.

    The motion is a zoom about a point near the horizon, a shift and a roll, each steady over the clip, plus a smooth
    field that bends it, so that near and far move differently. Targets are the still's own labels, moved along; the
    teacher is the keyframe's logits, moved along. That is what perfect propagation would give, and costs nothing; to
    run the keyframe network on every moved frame would take most of the training's time.
    """

    def __init__(self, stills: Stills, logits: Tensor, *, grid: tuple[int, int], align_corners: bool = False) -> None:
        """logits: (N, C, h, w), the keyframe network's, of `stills.images`. align_corners: their corner convention."""
        self.stills, self.logits, self.grid, self.align_corners = stills, logits, grid, align_corners

    def draw(self, num_frames: int, generator: np.random.Generator) -> Clip:
        """One clip of `num_frames` frames."""
        i = int(generator.integers(len(self.stills)))
        height, width = self.stills.labels.shape[-2:]
        positions = moving_positions(num_frames, (height, width), generator)
        moved, targets = move_still(self.stills, i, positions)
        clip = Clip(
            keyframe_logits=self.logits[i].float(),
            frames=jitter_colours(to_grid(moved, self.grid), generator),
            targets=targets,
            teacher=_move_logits(self.logits[i], positions, align_corners=self.align_corners),
            flow=flow_between(positions, self.grid),
        )
        return mirror(clip) if generator.random() < 0.5 else clip


class VideoClips:
    """Clips cut from one shot of video whose frames all have logits and targets (true, or the network's own labels)."""

    def __init__(
        self,
        frames: Tensor,
        logits: Tensor,
        targets: Tensor,
        *,
        flow: Tensor | None = None,
        strides: tuple[int, ...] = (1, 2, 3),
    ) -> None:
        """frames: (N, 3, h, w) uint8 on the grid; logits: (N, C, h, w); targets: (N, H, W) uint8.

        flow: (N, 2, h, w), of every frame to the one before it, as in Clip; clips that run forward, frame by frame,
        carry it. strides: frame steps to draw from; 2 shows twice the motion.
        """
        self.frames, self.logits, self.targets, self.strides = frames, logits, targets, strides
        self.flow = flow
        self.grid = (frames.shape[-2], frames.shape[-1])

    def draw(self, num_frames: int, generator: np.random.Generator) -> Clip:
        """One clip of `num_frames` frames, forward or backward in time. Raises ConfigError for too short a video."""
        if len(self.frames) < num_frames:
            raise ConfigError(f"a clip of {num_frames} frames cannot be cut from a video of {len(self.frames)}")
        longest = (len(self.frames) - 1) // max(1, num_frames - 1)
        stride = int(generator.choice([s for s in self.strides if s <= longest] or [1]))
        reach = stride * (num_frames - 1) + 1
        start = int(generator.integers(0, len(self.frames) - reach + 1))
        order = torch.arange(start, start + reach, stride)
        backward = generator.random() < 0.5
        order = order.flip(0) if backward else order
        knows_flow = self.flow is not None and stride == 1 and not backward
        clip = Clip(
            keyframe_logits=self.logits[order[0]].float(),
            frames=jitter_colours(self.frames[order].float(), generator),
            targets=self.targets[order],
            teacher=self.logits[order],
            flow=self.flow[order[1:]].float() if self.flow is not None and knows_flow else None,
        )
        return mirror(clip) if generator.random() < 0.5 else clip


def mirror(clip: Clip) -> Clip:
    """The clip seen in a mirror; the logits are mirrored too, as if the network did not mind."""
    return Clip(
        keyframe_logits=clip.keyframe_logits.flip(-1),
        frames=clip.frames.flip(-1),
        targets=clip.targets.flip(-1),
        teacher=None if clip.teacher is None else clip.teacher.flip(-1),
        flow=None if clip.flow is None else clip.flow.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1),
    )


def move_still(stills: Stills, i: int, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Still i and its labels where each frame sees them: (T, 3, H, W) float, (T, H, W) uint8 with 255 beyond it.

    positions: (T, H, W, 2), as of `moving_positions`.
    """
    image = stills.images[i].float().expand(len(positions), -1, -1, -1)
    moved = F.grid_sample(image, positions, mode="bilinear", padding_mode="border", align_corners=False)
    labels = (stills.labels[i].float() + 1).expand(len(positions), 1, -1, -1)
    targets = F.grid_sample(labels, positions, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0]
    return moved, torch.where(targets < 0.5, float(IGNORE), targets - 1).to(torch.uint8)


def _move_logits(logits: Tensor, positions: Tensor, *, align_corners: bool) -> Tensor:
    """(T, C, h, w) float16: logits (C, h, w) where each frame sees them; NaN where it looks beyond the still.

    positions: (T, H, W, 2) of the frames at full size, where -1 and 1 are the outer borders of the picture.
    """
    height, width = positions.shape[1:3]
    grid = F.interpolate(positions.movedim(-1, 1), logits.shape[-2:], mode="bilinear", align_corners=align_corners)
    grid = grid.movedim(1, -1)  # positions vary slowly: those of the grid's points, exactly so where they are linear
    if align_corners:  # -1 and 1 are now the centres of the outer pixels
        grid = grid * torch.tensor([width / (width - 1), height / (height - 1)])
    still = logits.float().expand(len(grid), -1, -1, -1)
    moved = F.grid_sample(still, grid, mode="bilinear", padding_mode="border", align_corners=align_corners)
    beyond = (grid.abs() > 1 + 1e-5).any(dim=-1)
    return torch.where(beyond[:, None], float("nan"), moved).half()


def flow_between(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """(T - 1, 2, h, w): the flow of frames 1..T-1 to the one before, (dx, dy) in pixels of `grid`; NaN where what a
    frame shows was beyond the border one frame ago.

    positions: (T, H, W, 2) = still + t * displacement. What frame t shows at p was at q one frame ago, where
    q + (t - 1) * displacement(q) = p + t * displacement(p): solved by iteration, on the grid, for motion is smooth.
    """
    at_grid = F.adaptive_avg_pool2d(positions[:2].movedim(-1, 1), grid)  # (2, 2, h, w)
    still, displacement = at_grid[:1], at_grid[1:] - at_grid[:1]
    steps = torch.arange(1, len(positions)).view(-1, 1, 1, 1)
    seen = still + steps * displacement
    field = displacement.expand(len(steps), -1, -1, -1)
    before = seen - (steps - 1) * field
    for _ in range(4):
        moved = F.grid_sample(field, before.movedim(1, -1), padding_mode="border", align_corners=False)
        before = seen - (steps - 1) * moved
    flow = (before - still) * torch.tensor([grid[1] / 2, grid[0] / 2]).view(2, 1, 1)
    return torch.where((before.abs() <= 1).all(dim=1, keepdim=True), flow, float("nan"))


def moving_positions(
    num_frames: int, size: tuple[int, int], generator: np.random.Generator, *, pace: float = 1.0
) -> Tensor:
    """(T, H, W, 2): where in the still each pixel of each frame comes from, in grid_sample's units.

    A pixel of frame t moved by t times a displacement that varies smoothly over the picture; frame 0 is the still.
    pace: factor on every displacement.
    """
    height, width = size
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height * 2 - 1, (torch.arange(width) + 0.5) / width * 2 - 1, indexing="ij"
    )
    aspect = width / height
    focus = generator.uniform((-0.4, -0.3), (0.4, 0.3))
    zoom = float(generator.normal(0, 0.02))
    shift = generator.normal(0, (0.02, 0.01))
    roll = float(generator.normal(0, 0.006))
    coarse = torch.from_numpy(generator.normal(0, 0.012, (1, 2, 4, 5)).astype(np.float32))
    bend = F.interpolate(coarse, size, mode="bicubic", align_corners=True)[0]
    depth = 0.4 + 1.2 * ((y + 1) / 2)  # what is low in the picture is near and moves faster
    dx = depth * (zoom * (x - focus[0]) + shift[0]) + roll * y / aspect + bend[0]
    dy = depth * (zoom * (y - focus[1]) + shift[1]) - roll * x * aspect + bend[1]
    steps = pace * torch.arange(num_frames).view(-1, 1, 1)
    return torch.stack([x + steps * dx, y + steps * dy], dim=-1).float()
