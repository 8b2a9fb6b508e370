"""Frames with a number and known colours, drawn as RGB and turned into a decoder's planes by the equations of the ITU.

No code under test, and no library, converts the colours: what is read back is compared with what was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from tests.video.media import GRID_COLUMNS, GRID_ROWS, draw_frame, read_number

# Added to the blocks of `draw_frame`; each sums to 0, so a block stays as light or dark as its bit.
_HUES = np.array(
    [(50, -25, -25), (-25, 50, -25), (-25, -25, 50), (-40, 20, 20), (20, -40, 20), (20, 20, -40),
     (40, -40, 0), (0, 40, -40), (-40, 0, 40), (30, 0, -30), (-30, 30, 0), (0, 0, 0)]
)  # fmt: skip
_LEVEL_STEP, _DARKEST = 12, 20
_COMB = 15

# Shares of red and blue in luma: ITU-R BT.601, BT.709, BT.2020, SMPTE 240M, FCC; and the tags of FFmpeg for them.
LUMA_SHARES = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
TAGS = {"bt601": 6, "bt470bg": 5, "bt709": 1, "bt2020": 9, "smpte240m": 7, "fcc": 4}


@dataclass(frozen=True)
class Drawing:
    """A way to put numbers into images (height, width, 3) uint8: draw(number, height, width), read(image) -> number."""

    draw: Callable[[int, int, int], np.ndarray]
    read: Callable[[np.ndarray], int]


def _draw_coloured(number: int, height: int, width: int) -> np.ndarray:
    rows, columns = np.arange(height) * GRID_ROWS // height, np.arange(width) * GRID_COLUMNS // width
    hues = _HUES[rows[:, None] * GRID_COLUMNS + columns[None, :]]
    return np.clip(draw_frame(number, height, width) + hues, 0, 255).astype(np.uint8)


def _draw_combed(number: int, height: int, width: int) -> np.ndarray:
    comb = np.where(np.arange(height) % 2 == 0, _COMB, -_COMB)[:, None, None]
    return np.clip(_draw_coloured(number, height, width) + comb, 0, 255).astype(np.uint8)


def _draw_gray(number: int, height: int, width: int) -> np.ndarray:
    luma = _draw_coloured(number, height, width) @ np.array([0.299, 0.587, 0.114])
    return np.repeat(np.rint(luma).astype(np.uint8)[..., None], 3, axis=2)


def _draw_level(number: int, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _DARKEST + _LEVEL_STEP * number, np.uint8)


def _read_level(image: np.ndarray) -> int:
    return round((float(image.mean()) - _DARKEST) / _LEVEL_STEP)


def _draw_paletted(number: int, height: int, width: int) -> np.ndarray:
    return PALETTE[palette_places(_draw_coloured(number, height, width))]


def palette_places(image: np.ndarray) -> np.ndarray:
    """(height, width) uint8: where the colours of an image stand in `PALETTE`, the nearest ones below."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return (red >> 5 << 5) | (green >> 5 << 2) | (blue >> 6)


# (256, 3) uint8: 8 x 8 x 4 colours.
PALETTE = np.array([(place >> 5 << 5, (place >> 2 & 7) << 5, (place & 3) << 6) for place in range(256)], np.uint8)

COLOURED = Drawing(_draw_coloured, read_number)
COMBED = Drawing(_draw_combed, read_number)  # even rows light, odd rows dark: the two fields of an interlaced frame
PALETTED = Drawing(_draw_paletted, read_number)
GRAY = Drawing(_draw_gray, read_number)
LEVEL = Drawing(_draw_level, _read_level)  # for frames of a few pixels


def colour_error(seen: np.ndarray, drawn: np.ndarray) -> float:
    """Largest difference between the mean colours of the blocks of two images, in even and in odd rows, in levels."""
    return max(
        float(np.abs(_block_means(seen[parity::2]) - _block_means(drawn[parity::2])).max())
        for parity in range(min(2, len(seen)))
    )


def _block_means(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    means = []
    for row in range(GRID_ROWS):
        for column in range(GRID_COLUMNS):
            top, left = int((row + 0.3) * height / GRID_ROWS), int((column + 0.3) * width / GRID_COLUMNS)
            bottom, right = int((row + 0.7) * height / GRID_ROWS), int((column + 0.7) * width / GRID_COLUMNS)
            means.append(image[top : max(bottom, top + 1), left : max(right, left + 1)].mean((0, 1)))
    return np.array(means)


def to_planes(
    image: np.ndarray, pixel_format: str, *, matrix: str = "bt601", full_range: bool = False
) -> av.VideoFrame:
    """A frame in a planar YUV, gray or RGB format; alpha is a ramp from left to right.

    image: (height, width, 3) uint8. Chroma is the mean of the pixels that share it.
    """
    height, width = image.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    red, green, blue = np.moveaxis(image / 255.0, -1, 0)
    if frame.format.is_rgb:
        values = [red, green, blue]
    else:
        share_r, share_b = LUMA_SHARES[matrix]
        luma = share_r * red + (1 - share_r - share_b) * green + share_b * blue
        values = [luma, (blue - luma) / (2 * (1 - share_b)), (red - luma) / (2 * (1 - share_r))]
    alpha = np.tile(np.linspace(0, 1, width), (height, 1))
    is_rgb = frame.format.is_rgb
    for place, component in enumerate(frame.format.components):
        value = alpha if component.is_alpha else values[place]
        is_chroma = place > 0 and not is_rgb and not component.is_alpha
        full = full_range or is_rgb or component.is_alpha
        _fill(frame.planes[component.plane], value, component.bits, full_range=full, is_chroma=is_chroma)
    return frame


def _fill(plane: av.video.plane.VideoPlane, value: np.ndarray, bits: int, *, full_range: bool, is_chroma: bool) -> None:
    """Write a component, 0..1 or for chroma -0.5..0.5, as levels into its plane."""
    gain = 2**bits - 1 if full_range else (224 if is_chroma else 219) << (bits - 8)
    offset = 1 << (bits - 1) if is_chroma else 0 if full_range else 16 << (bits - 8)
    levels = np.clip(np.rint(_average(value, plane.height, plane.width) * gain + offset), 0, 2**bits - 1)
    kind = np.dtype(np.uint8 if bits <= 8 else "<u2")
    rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
    rows[:, : plane.width] = levels
    plane.update(rows.tobytes())


def _average(value: np.ndarray, height: int, width: int) -> np.ndarray:
    """Means over blocks of 1, 2 or 4 pixels; the last row and column count twice where a size is odd."""
    down, right = -(-value.shape[0] // height), -(-value.shape[1] // width)
    padded = np.pad(value, ((0, down * height - value.shape[0]), (0, right * width - value.shape[1])), mode="edge")
    return padded.reshape(height, down, width, right).mean((1, 3))
