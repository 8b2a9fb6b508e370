"""From a decoded frame to RGB pixels at the size that a network reads, in display orientation."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

_HD_ROWS = 720
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
# Measured against float arithmetic at 1/2 to 1/8 size: without full horizontal chroma, swscale is 2 levels too dark and
# smears colour over pixel pairs (mean error 2.0 against 0.3); without the other two, rounding depends on the processor.
_AREA = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
# At equal size nothing is averaged: the plain conversion, as every program that uses FFmpeg gets it.
_PLAIN = Interpolation.BILINEAR


@dataclass(frozen=True)
class View:
    """A size in pixels, in display orientation, at which a frame is wanted, and how it gets there.

    "area" averages straight from the decoder's planes to uint8. "exact" is the published way: full-size RGB as
    float32, then corner-aligned bilinear without antialiasing.
    """

    height: int
    width: int
    resize: Literal["area", "exact"] = "area"


def render(frame: av.VideoFrame, view: View, rotation: int = 0) -> np.ndarray:
    """RGB image (height, width, 3) in 0..255 of a decoded frame: uint8 for "area", float32 for "exact".

    rotation: degrees counterclockwise, a multiple of 90, that bring the stored frame upright.
    """
    if view.resize == "exact":
        return _resize_exactly(render_full_size(frame, rotation), view.height, view.width)
    turned = rotation in (90, 270)
    height, width = (view.width, view.height) if turned else (view.height, view.width)
    return _rotate(_convert(frame, height, width), rotation)


def render_full_size(frame: av.VideoFrame, rotation: int = 0) -> np.ndarray:
    """RGB image (H, W, 3) uint8 of a decoded frame at its own size, upright."""
    return _rotate(_convert(frame, frame.height, frame.width), rotation)


def _convert(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
    colorspace = None
    if frame.colorspace == _UNSPECIFIED:  # what players assume: the standard of the frame's format
        colorspace = Colorspace.ITU709 if frame.height >= _HD_ROWS else Colorspace.ITU601
    same_size = (height, width) == (frame.height, frame.width)
    picture = _reformatter(height, width).reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        interpolation=_PLAIN if same_size else _AREA,
        src_colorspace=colorspace,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return picture.to_ndarray()


_per_thread = threading.local()


def _reformatter(height: int, width: int) -> VideoReformatter:
    """This thread's swscale context for one output size: making its filter tables anew costs more than a frame."""
    contexts: dict[tuple[int, int], VideoReformatter] = _per_thread.__dict__.setdefault("contexts", {})
    if (height, width) not in contexts:
        if len(contexts) >= 16:  # a job has a handful of sizes; a long-lived worker may meet many
            contexts.clear()
        contexts[height, width] = VideoReformatter()
    return contexts[height, width]


def _rotate(image: np.ndarray, rotation: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, rotation // 90))  # PyAV's rows may be padded


def _resize_exactly(image: np.ndarray, height: int, width: int) -> np.ndarray:
    import torch  # only this path needs it, and it takes seconds to import

    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(planes, size=(height, width), mode="bilinear", align_corners=True)
    return resized[0].permute(1, 2, 0).contiguous().numpy()
