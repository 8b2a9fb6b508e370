"""Runs of consecutive frames, for AR-Seg and TDNet: stills set in motion, drawn streets, and real videos.

Half of them run forward in time and half backward. For AR-Seg a run begins at its keyframe and leads away from it: a
keyframe after a frame serves it like one before. For TDNet it leads to the frame that is labeled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import ConfigError, VideoError
from gsvnet.evaluation.footage import stack_images
from gsvnet.training.clips import move_still, moving_positions
from gsvnet.training.sources import plan_drives, read_views
from gsvnet.training.stills import Stills, jitter_colours
from gsvnet.video.frames import View
from gsvnet.video.probe import probe_video

_PACES = (0.2, 1.0)  # of stills in motion, over frames that are about a 15th of a second apart
_ZOOMS = (1.0, 1.4)


@dataclass(frozen=True, kw_only=True)
class Run:
    """images (T, 3, H, W) uint8 RGB, in order of time or against it; targets (T, H, W) uint8 labels with 255 = ignore.

    targets None: nobody labelled it.
    """

    images: Tensor
    targets: Tensor | None


class RunSource(Protocol):
    """Anything that runs of one size can be drawn from."""

    def draw(self, num_frames: int, generator: np.random.Generator, *, kept: Sequence[int] | None = None) -> Run:
        """One run of `num_frames` frames, or of those at the places `kept` of it, ascending: others are not made."""
        ...


class StillRuns:
    """Runs made from labelled stills: each seen from a moving camera, as in `StillClips`, at times from closer up."""

    def __init__(self, stills: Stills) -> None:
        self.stills = stills

    def draw(self, num_frames: int, generator: np.random.Generator, *, kept: Sequence[int] | None = None) -> Run:
        """One run of `num_frames` frames, or of those at places `kept`; the still itself is its first or its last."""
        i = int(generator.integers(len(self.stills)))
        height, width = self.stills.labels.shape[-2:]
        positions = moving_positions(num_frames, (height, width), generator, pace=float(generator.uniform(*_PACES)))
        if generator.random() < 0.5:
            positions = positions.flip(0)
        if kept is not None:
            positions = positions[list(kept)]
        if generator.random() < 0.5:
            zoom = float(generator.uniform(*_ZOOMS))
            centre = generator.uniform(-1, 1, 2) * (1 - 1 / zoom)
            positions = positions / zoom + torch.from_numpy(centre).float()
        return _vary(*move_still(self.stills, i, positions), generator)


class VideoRuns:
    """Runs cut from consecutive frames (N, 3, H, W) uint8; targets (N, H, W) uint8, or None where nobody labelled them.

    size: (height, width) of the window that each run shows, at a random place. strides: frame steps to draw from.
    """

    def __init__(
        self, frames: Tensor, targets: Tensor | None, *, size: tuple[int, int], strides: tuple[int, ...] = (1, 2)
    ) -> None:
        self.frames, self.targets, self.size, self.strides = frames, targets, size, strides

    def draw(self, num_frames: int, generator: np.random.Generator, *, kept: Sequence[int] | None = None) -> Run:
        """One run of `num_frames` frames, or of those at places `kept`, forward or backward.

        Raises ConfigError for too short a video.
        """
        if len(self.frames) < num_frames:
            raise ConfigError(f"a run of {num_frames} frames cannot be cut from a video of {len(self.frames)}")
        longest = (len(self.frames) - 1) // max(1, num_frames - 1)
        stride = int(generator.choice([s for s in self.strides if s <= longest] or [1]))
        first = int(generator.integers(0, len(self.frames) - stride * (num_frames - 1)))
        chosen = torch.arange(num_frames) * stride + first
        if generator.random() < 0.5:
            chosen = chosen.flip(0)
        chosen = chosen if kept is None else chosen[list(kept)]
        height, width = self.size
        y, x = (int(generator.integers(0, n - m + 1)) for n, m in zip(self.frames.shape[-2:], self.size))
        window = (..., slice(y, y + height), slice(x, x + width))
        targets = None if self.targets is None else self.targets[chosen][window]
        return _vary(self.frames[chosen][window].float(), targets, generator)


def _vary(frames: Tensor, targets: Tensor | None, generator: np.random.Generator) -> Run:
    """A run of float frames: mirrored half of the time, in other colours, the same ones in all frames."""
    images = jitter_colours(frames, generator).round_().to(torch.uint8)
    if generator.random() < 0.5:
        images, targets = images.flip(-1), None if targets is None else targets.flip(-1)
    return Run(images=images, targets=targets)


def draw_street_runs(num_clips: int, num_frames: int, size: tuple[int, int], *, seed: int) -> list[VideoRuns]:
    """`num_clips` drives of `num_frames` frames, each in a drawn street of its own, with exact labels."""
    drives = []
    for scene, indices in plan_drives(num_clips, num_frames, size, seed=seed):
        frames = stack_images([scene.image(j) for j in indices])
        targets = torch.stack([torch.from_numpy(scene.labels(j)) for j in indices])
        drives.append(VideoRuns(frames, targets, size=size))
    return drives


def read_video_runs(uri: str, size: tuple[int, int], *, max_frames: int, threads: int = 1) -> VideoRuns:
    """The first `max_frames` frames of a real video, just large enough to cover `size`; lost ones are left out.

    Raises VideoError for a video that cannot be read or of which no frame can be decoded.
    """
    info = probe_video(uri)
    factor = max(size[0] / info.height, size[1] / info.width)
    view = View(max(size[0], round(factor * info.height)), max(size[1], round(factor * info.width)), resize="area")
    decoded = read_views(uri, lambda index: [view], rotation=info.rotation, threads=threads)
    images = [frame.images[0] for frame in islice(decoded, max_frames)]
    if not images:
        raise VideoError("no frame can be decoded; nothing to learn from", uri=info.uri)
    return VideoRuns(stack_images(images), None, size=size)


def draw_run(
    sources: Sequence[tuple[RunSource, float]],
    num_frames: int,
    generator: np.random.Generator,
    *,
    kept: Sequence[int] | None = None,
) -> Run:
    """One run of one of the sources, each drawn by its share; shares need not sum to 1. kept: as in RunSource."""
    shares = np.array([share for _, share in sources], float)
    source = sources[int(generator.choice(len(sources), p=shares / shares.sum()))][0]
    return source.draw(num_frames, generator, kept=kept)
