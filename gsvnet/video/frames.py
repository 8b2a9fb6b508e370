"""From a decoded frame to RGB pixels at the size that a network reads, in display orientation."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

_HD_ROWS = 720
_BT709, _UNSPECIFIED, _BT601 = 1, 2, 6  # AVCOL_SPC_BT709, _UNSPECIFIED, _SMPTE170M
_NO_MATRIX = frozenset({0, _UNSPECIFIED, 3})  # AVCOL_SPC_RGB, which says nothing of YUV, and _RESERVED
_CONVERTIBLE = frozenset({_BT709, 4, 5, _BT601, 7, 9})  # swscale has no other: FCC, BT.470BG, SMPTE 240M, BT.2020
_INCONVERTIBLE = {8: "YCgCo", 10: "BT.2020 of constant luminance", 11: "SMPTE 2085", 14: "ICtCp", 15: "IPT-C2"}
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
    return render_views(frame, [view], rotation)[0]


def render_views(frame: av.VideoFrame, views: Sequence[View], rotation: int = 0) -> tuple[np.ndarray, ...]:
    """One image per view, as `render` makes it; "exact" views share one conversion to full-size RGB."""
    exact = [view for view in views if view.resize == "exact"]
    full_size = _float_frame(render_full_size(frame, rotation), exact) if exact else None
    return tuple(
        _resize_exactly(full_size, view)
        if full_size is not None and view.resize == "exact"
        else _area(frame, view, rotation)
        for view in views
    )


def render_full_size(frame: av.VideoFrame, rotation: int = 0) -> np.ndarray:
    """RGB image (H, W, 3) uint8 of a decoded frame at its own size, upright."""
    return _rotate(_convert(frame, frame.height, frame.width), rotation)


def guess_colorspace(frame: av.VideoFrame) -> int:
    """AVColorSpace of a decoded frame: its tag where that is convertible, else the standard of its size."""
    if frame.colorspace in _CONVERTIBLE:
        return frame.colorspace
    return _BT709 if frame.height >= _HD_ROWS else _BT601


def inconvertible_colours(frame: av.VideoFrame) -> str | None:
    """Name of the colours of a decoded frame where they cannot be turned into RGB, else None.

    `render` takes such a frame for one without a tag: a flipped bit in the middle of a video should not end it.
    """
    if frame.colorspace in _CONVERTIBLE | _NO_MATRIX or frame.format.is_rgb or len(frame.format.components) < 3:
        return None
    return _INCONVERTIBLE.get(frame.colorspace, f"colour matrix {frame.colorspace}")


def find_side_data(frame: av.VideoFrame, name: str) -> Any:
    """What the decoder tells beside a frame's pixels, such as "DISPLAYMATRIX"; None: nothing of that name.

    PyAV's own `frame.side_data` refers back to the frame, whose memory would then stay until Python looks for cycles.
    """
    return SideDataContainer(frame).get(name)  # type: ignore[call-arg]


def _area(frame: av.VideoFrame, view: View, rotation: int) -> np.ndarray:
    turned = rotation in (90, 270)
    height, width = (view.width, view.height) if turned else (view.height, view.width)
    return _rotate(_convert(frame, height, width), rotation)


def _convert(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
    colorspace = None
    if frame.colorspace not in _CONVERTIBLE:
        colorspace = Colorspace.ITU709 if guess_colorspace(frame) == _BT709 else Colorspace.ITU601
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
    plane = picture.planes[0]  # read in place: a copy of a keyframe costs more than its conversion
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
    image = rows[:, : width * 3].reshape(height, width, 3)
    is_gray = len(frame.format.components) < 3 and not frame.format.has_palette
    if is_gray and frame.color_range == ColorRange.MPEG:  # swscale takes all gray for full range
        return _stretch_table(frame.format.components[0].bits)[image]
    return image


@lru_cache(maxsize=16)
def _stretch_table(bits: int) -> np.ndarray:
    """(256,) uint8: levels of full range for those of limited range that were read as if they were full."""
    unit = 255 * 2 ** (bits - 8) / (2**bits - 1)  # one level of 8 bits
    return np.clip(np.rint((np.arange(256) - 16 * unit) * 255 / (219 * unit)), 0, 255).astype(np.uint8)


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
    return np.ascontiguousarray(np.rot90(image, rotation // 90))  # swscale's rows may be padded


def _float_frame(image: np.ndarray, views: Sequence[View]) -> np.ndarray:
    """The image as float32 in this thread's buffer, valid until the next call.

    Only rows that some view reads are filled: the others keep what an earlier frame left there.
    """
    buffer: np.ndarray | None = _per_thread.__dict__.get("float_frame")
    if buffer is None or buffer.shape != image.shape:
        buffer = _per_thread.float_frame = np.zeros(image.shape, np.float32)
    rows = np.unique(np.concatenate([_rows_read(len(image), view.height) for view in views]))
    if len(rows) * 2 > len(image):
        buffer[:] = image
    else:
        buffer[rows] = image[rows]
    return buffer


def _rows_read(num_rows: int, num_wanted: int) -> np.ndarray:
    """Rows that corner-aligned bilinear reads, and those that rounding of their positions might lead to."""
    position = np.arange(num_wanted) * ((num_rows - 1) / max(num_wanted - 1, 1))
    above = np.concatenate([np.floor(position - 0.01), np.floor(position + 0.01)]).astype(np.intp)
    return np.concatenate([above, above + 1]).clip(0, num_rows - 1)


def _resize_exactly(full_size: np.ndarray, view: View) -> np.ndarray:
    import torch  # only this path needs it, and it takes seconds to import

    planes = torch.from_numpy(full_size).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, size=(view.height, view.width), mode="bilinear", align_corners=True
    )
    return resized[0].permute(1, 2, 0).contiguous().numpy()
