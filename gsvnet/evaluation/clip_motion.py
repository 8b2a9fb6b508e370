"""Motion within a chunk, from an encoder that is run over the chunk's images: the source that is called "proxy".

Labeling does the same with videos whose own codec tells nothing that can be used. AR-Seg's authors do it as well: they
encode a clip anew for every place of the keyframe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gsvnet.choices import MotionSource
from gsvnet.video.proxy import trace_by_proxy, trace_to_next_by_proxy

Traced = tuple[np.ndarray, np.ndarray]

MOTION_NOTES: dict[MotionSource, str] = {
    "codec": "motion is that of the codec of the given video; none is known across its I-frames",
    "proxy": "motion is that of an encoder run over each chunk's images, at the size that the network reads them",
}


def trace_images(images: Sequence[Tensor], size: tuple[int, int]) -> Traced:
    """Motion (N, 2, h, w) from each of some images (3, h', w') in 0..255 to the first, and where known (N, h, w).

    In pixels of a grid of `size`.
    """
    return trace_by_proxy([_as_picture(image) for image in images], size)


def trace_images_to_next(images: Sequence[Tensor], next_keyframe: Tensor, size: tuple[int, int]) -> Traced:
    """The same to an image that follows them: encoded from there back to the first."""
    return trace_to_next_by_proxy([_as_picture(image) for image in images], _as_picture(next_keyframe), size)


def stack_traced(traced: Sequence[Traced | None], length: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Motion (B, length, 2, h, w) and where known (B, length, h, w); zero and unknown where nothing was traced."""
    motion = np.zeros((len(traced), length, 2, *size), np.float32)
    known = np.zeros((len(traced), length, *size), bool)
    for row, found in enumerate(traced):
        if found is not None:
            motion[row, : len(found[0])], known[row, : len(found[1])] = found
    return torch.from_numpy(motion), torch.from_numpy(known)


def _as_picture(image: Tensor) -> np.ndarray:
    """(h, w, 3) uint8, as an encoder takes it."""
    return image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
