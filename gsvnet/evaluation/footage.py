"""Real video without labels, frame by frame, as a GSVNet and its keyframe network see it when they label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import ModelError
from gsvnet.models.gsvnet import GSVNet
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.probe import probe_video

_BATCH_FRAMES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """A video whose frames can be found. height, width: pixels, upright. pts: (N,) int64 ticks of every frame."""

    uri: str
    height: int
    width: int
    rotation: int
    pts: np.ndarray

    @property
    def num_frames(self) -> int:
        """N, lost ones included."""
        return len(self.pts)


@dataclass(frozen=True, kw_only=True)
class SeenFrames:
    """N consecutive decodable frames.

    keyframes: (N, 3, H, W) RGB in 0..255 as the keyframe network reads them. frames: (N, 3, h, w), the same on the
    propagation grid. logits: (N, C, h', w') float32, the keyframe network's for every one of them, on its own grid.
    """

    keyframes: Tensor
    frames: Tensor
    logits: Tensor


def open_footage(uri: str) -> Footage:
    """The index of a video. Raises VideoError when it cannot be used."""
    info, index = probe_video(uri), index_video(uri)
    return Footage(uri=uri, height=info.height, width=info.width, rotation=info.rotation, pts=index.pts)


def spread_runs(first_frame: int, stop_frame: int, *, num_frames: int, run_frames: int) -> list[tuple[int, int]]:
    """Runs [first, stop) of about `run_frames` frames, evenly spread over a range, with at most `num_frames` in all.

    One run, the whole range, where it has no more frames than that. So an hour is seen at many places, not only at its
    start.

    >>> spread_runs(0, 100, num_frames=20, run_frames=10)
    [(0, 10), (90, 100)]
    """
    length = stop_frame - first_frame
    if length <= num_frames:
        return [(first_frame, stop_frame)]
    count = max(1, num_frames // run_frames)
    size = num_frames // count
    gap = (length - count * size) / max(1, count - 1)
    starts = [first_frame + round(i * (size + gap)) for i in range(count)]
    return [(start, start + size) for start in starts]


def working_size(model: GSVNet, footage: Footage) -> tuple[int, int]:
    """(height, width) in pixels of the frame that the model's grids are derived from: labels are compared there."""
    return model.size_rule.working_size(footage.height, footage.width)


@torch.no_grad()
def see_frames(
    model: GSVNet, footage: Footage, *, first_frame: int, stop_frame: int, device: str = "cpu", threads: int = 1
) -> Iterator[SeenFrames]:
    """The decodable frames of [first_frame, stop_frame) in order, a few at a time, each segmented by itself.

    The model is on `device` in evaluation mode; results are there too. Sizes and resize are those of labeling. Raises
    VideoError when reading cannot go on, ModelError for a model that does not propagate.
    """
    needs = model.needs(footage.height, footage.width)
    if needs.frame_size is None:
        raise ModelError("the model has no propagation grid; agreement is that of a propagating model")
    views = (View(*needs.keyframe_size, needs.resize), View(*needs.frame_size, needs.resize))
    decoded = read_frames(
        footage.uri,
        first_frame=first_frame,
        start_pts=int(footage.pts[first_frame]),
        end_pts=int(footage.pts[stop_frame]) if stop_frame < footage.num_frames else None,
        views=lambda index: views,
        rotation=footage.rotation,
        threads=threads,
    )
    with closing(decoded):
        images = (frame.images for frame in decoded if frame.status == "ok")
        while part := list(islice(images, _BATCH_FRAMES)):
            keyframes, small = (stack_images([views[i] for views in part]).to(device) for i in range(2))
            logits = model.keyframe_network(model.keyframe_normalise(keyframes)).float()
            yield SeenFrames(keyframes=keyframes, frames=small, logits=logits)


def stack_images(images: Sequence[np.ndarray | Tensor]) -> Tensor:
    """(N, 3, H, W) of images (H, W, 3) of one size."""
    return torch.stack([torch.as_tensor(image) for image in images]).permute(0, 3, 1, 2).contiguous()
