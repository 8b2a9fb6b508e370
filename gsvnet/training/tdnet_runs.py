"""Runs of N frames that TDNet learns from, one for each sub-network: drawn step by step, whoever labelled them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.segmenter import Resize
from gsvnet.training.footage_runs import Run, RunSource, VideoRuns, draw_run

_BATCH_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class RunBatch:
    """B runs of N frames, in order of time, forward or backward: images (B, N, 3, h, w) in 0..255, RGB, as the network
    reads them; targets (B, N, H, W) uint8 labels with 255 = ignore.

    In run b the last frame is sub-network b mod N's, and those before it are the others' as their turns come.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def pick(self, places: slice | Sequence[int]) -> RunBatch:
        """Some of the runs. Whose turn it is follows from their places in what comes out."""
        return RunBatch(images=self.images[places], targets=self.targets[places])

    def to(self, device: str) -> RunBatch:
        """The same runs on another device."""
        return RunBatch(images=self.images.to(device), targets=self.targets.to(device))


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """How runs are drawn. num_frames: N. gap: frames of a run are 1 to so many apart. crop: (height, width) in pixels
    of the window that all frames of a run show, at a random place; None: all of them. read: height and width at which
    the network reads a frame, over those of the run.
    """

    num_frames: int
    gap: int = 2
    crop: tuple[int, int] | None = None
    read: tuple[float, float] = (1.0, 1.0)
    resize: Resize = "area"
    seed: tuple[int, ...] = (0,)

    @property
    def longest(self) -> int:
        """Most frames from the first to the last of a run, both included."""
        return 1 + self.gap * (self.num_frames - 1)


def draw_runs(
    sources: Sequence[tuple[RunSource, float]], recipe: RunRecipe, step: int, places: Sequence[int]
) -> RunBatch:
    """The runs of a step at these places of its batch; a run follows from seed, step and place alone.

    Raises ConfigError for runs that nobody labelled.
    """
    runs = [_draw(sources, recipe, np.random.default_rng([*recipe.seed, step, place])) for place in places]
    return RunBatch(images=torch.stack([run.images for run in runs]), targets=torch.stack([_targets(r) for r in runs]))


def _draw(sources: Sequence[tuple[RunSource, float]], recipe: RunRecipe, generator: np.random.Generator) -> Run:
    kept = [0, *np.cumsum(generator.integers(1, recipe.gap + 1, recipe.num_frames - 1)).tolist()]
    run = draw_run(sources, kept[-1] + 1, generator, kept=kept)
    images, targets = run.images, _targets(run)
    if recipe.crop is not None:
        height, width = recipe.crop
        y, x = (int(generator.integers(0, n - m + 1)) for n, m in zip(images.shape[-2:], recipe.crop))
        window = (..., slice(y, y + height), slice(x, x + width))
        images, targets = images[window], targets[window]
    read = tuple(max(1, round(n * factor)) for n, factor in zip(images.shape[-2:], recipe.read))
    if read != tuple(images.shape[-2:]):
        images = torch.stack([resize_image(image, (read[0], read[1]), recipe.resize) for image in images])
    return Run(images=images, targets=targets)


def _targets(run: Run) -> Tensor:
    if run.targets is None:
        raise ConfigError("a run without labels: label its video first, with label_frames")
    return run.targets


def label_frames(video: VideoRuns, label: Callable[[Tensor], Tensor] | None) -> VideoRuns:
    """The same video with `label`'s labels of its frames, where nobody labelled them, and single frame steps.

    label: RGB images (n, 3, H, W) in 0..255 -> labels (n, H, W). Single steps, for gaps are drawn besides.
    """
    targets = video.targets
    if targets is None and label is not None:
        targets = torch.cat([label(part).to(torch.uint8).cpu() for part in video.frames.split(_BATCH_FRAMES)])
    return VideoRuns(video.frames, targets, size=video.size, strides=(1,))
