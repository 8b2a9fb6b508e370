"""Pairs of neighbouring frames with the flow between them, for a network to learn to say the same of both.

No labels are needed. The flow leads from a frame to its partner: (2, h, w), (dx, dy) in pixels of its own grid, which
may be coarser than the images; NaN where it is not known. It is what `temporal_losses.consistency_loss` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.training.clips import flow_between, move_still, moving_positions
from gsvnet.training.stills import Stills, Window, cut_views, draw_window, jitter_colours

FLOW_STRIDE = 4  # pixels of an image, or of a view, per pixel of its flow
_PACES = (0.2, 1.0)  # of stills in motion, over frames that are about a 15th of a second apart
_MOST_NOISE, _MOST_FLICKER = 4.0, 4.0  # grey levels of 255


@dataclass(frozen=True, kw_only=True)
class Pair:
    """images (2, 3, H, W) RGB in 0..255: a frame and its partner. flow (2, h, w): frame -> partner."""

    images: Tensor
    flow: Tensor


class PairSource(Protocol):
    """Anything that pairs can be drawn from."""

    def draw(self, generator: np.random.Generator) -> Pair:
        """One pair."""
        ...


class FramePairs:
    """Pairs of the frames of one video, whose flow was found once."""

    def __init__(self, frames: Tensor, places: Tensor, flow: Tensor) -> None:
        """frames: (N, 3, H, W) uint8; places: (P, 2) of each frame and its partner; flow: (P, 2, h, w) float16."""
        self.frames, self.places, self.flow = frames, places, flow

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, generator: np.random.Generator) -> Pair:
        """One of the pairs, each as likely as any other."""
        i = int(generator.integers(len(self.places)))
        return Pair(images=self.frames[self.places[i]], flow=self.flow[i].float())


class MovingStills:
    """Pairs made from single images, each seen twice from a moving camera: for labelled images without neighbours."""

    def __init__(self, stills: Stills) -> None:
        self.stills = stills

    def draw(self, generator: np.random.Generator) -> Pair:
        """One still at two moments of a motion as in `StillClips`, with its exact flow."""
        i = int(generator.integers(len(self.stills)))
        height, width = self.stills.labels.shape[-2:]
        positions = moving_positions(3, (height, width), generator, pace=float(generator.uniform(*_PACES)))
        images, _ = move_still(self.stills, i, positions[1:].flip(0))  # not the still itself, which is sharper
        grid = flow_grid((height, width))
        flow = flow_between(positions, grid)[1]
        shown = F.adaptive_avg_pool2d(positions[2].movedim(-1, 0), grid).abs().amax(dim=0) <= 1
        return Pair(images=images, flow=torch.where(shown, flow, float("nan")))


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """images (2 B, 3, h, w) float RGB in 0..255: first B frames, then their partners. flow (B, 2, h', w')."""

    images: Tensor
    flow: Tensor


def draw_pairs(
    sources: Sequence[tuple[PairSource, float]],
    count: int,
    *,
    crop: tuple[int, int],
    scales: tuple[float, float],
    seed: Sequence[int],
    share: slice = slice(None),
) -> PairBatch:
    """Views of `count` pairs. sources: each with how often it is drawn; shares need not sum to 1.

    seed: of this step; a view follows from it and from its place in the batch alone. share: the places that are wanted.
    """
    shares = np.array([share for _, share in sources], float)
    drawn = []
    for place in range(count)[share]:
        generator = np.random.default_rng([*seed, place])
        source = sources[int(generator.choice(len(sources), p=shares / shares.sum()))][0]
        drawn.append(cut_pair(source.draw(generator), crop=crop, scales=scales, generator=generator))
    images = torch.stack([pair.images for pair in drawn], dim=1).flatten(0, 1)
    return PairBatch(images=images, flow=torch.stack([pair.flow for pair in drawn]))


def cut_pair(pair: Pair, *, crop: tuple[int, int], scales: tuple[float, float], generator: np.random.Generator) -> Pair:
    """The same random window of both images, as `draw_view` cuts it of a still, and its flow at `flow_grid(crop)`.

    Mirror and colours are those of both; a little noise and brightness, which labels should not follow, are each
    image's own.
    """
    size = (pair.images.shape[-2], pair.images.shape[-1])
    window = draw_window(size, crop=crop, scales=scales, generator=generator)
    views, flow = cut_views(pair.images, window, crop), cut_flow(pair.flow, size, window, flow_grid(crop))
    if generator.random() < 0.5:
        views, flow = views.flip(-1), flow.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    return Pair(images=_flicker(jitter_colours(views, generator), generator), flow=flow)


def flow_grid(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the flow that is kept of images of `size`, and that a view of `size` has."""
    return -(-size[0] // FLOW_STRIDE), -(-size[1] // FLOW_STRIDE)


def cut_flow(flow: Tensor, size: tuple[int, int], window: Window, grid: tuple[int, int]) -> Tensor:
    """(2, *grid): what a window of an image of `size` sees of its flow (2, h, w), in pixels of `grid`.

    Bilinear; NaN where one of the pixels that it is made of is.
    """
    (height, width), (rows, columns) = size, grid
    y = (window.top + (torch.arange(rows) + 0.5) * (window.height / rows)) / height * 2 - 1
    x = (window.left + (torch.arange(columns) + 0.5) * (window.width / columns)) / width * 2 - 1
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    known = flow.isfinite().all(dim=0, keepdim=True)
    layers = torch.cat([torch.where(known, flow.float(), 0.0), known.float()])[None]
    cut = F.grid_sample(layers, places, mode="bilinear", padding_mode="border", align_corners=False)[0]
    to_image = torch.tensor([width / flow.shape[-1], height / flow.shape[-2]])
    to_grid = torch.tensor([columns / window.width, rows / window.height])
    return torch.where(cut[2] > 0.99, cut[:2] * (to_image * to_grid).view(2, 1, 1), float("nan"))


def _flicker(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Images (N, 3, h, w) as a camera might see them one after the other: with noise, and not equally bright."""
    brightness = torch.from_numpy(generator.uniform(-_MOST_FLICKER, _MOST_FLICKER, len(images)).astype(np.float32))
    noise = torch.from_numpy(generator.standard_normal(tuple(images.shape), np.float32))
    deviation = float(generator.uniform(0, _MOST_NOISE))
    return (images + brightness.view(-1, 1, 1, 1) + deviation * noise).clamp_(0, 255)
