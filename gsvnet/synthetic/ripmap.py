"""Textures that stay smooth at any distance and slant: ripmaps, sampled bilinearly.

A texel has six channels: red, green, blue, paint, alpha, solid. A surface of tint T shows red/green/blue + paint * T
(both premultiplied by alpha); solid >= 0.5 marks what belongs to the object's class, which for a bare tree is its
whole crown and for a shadow is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = 6
PAINT, ALPHA, SOLID = 3, 4, 5

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Texture:
    """All levels of one image, flat.

    texels: (T, 6) uint8. offsets: (rows_log2 + 1, columns_log2 + 1) int32, where the level with so many halvings of
    rows and columns begins. rows, columns: of level (0, 0), powers of two. Row 0 is the bottom.
    wrap_u, wrap_v: periodic; otherwise the border's colour lasts.
    """

    texels: NDArray[np.uint8]
    offsets: NDArray[np.int32]
    rows: int
    columns: int
    wrap_u: bool
    wrap_v: bool


def build_texture(image: NDArray, *, wrap_u: bool = True, wrap_v: bool = True) -> Texture:
    """Ripmap of an image (rows, columns, 6) in 0..1; rows and columns are powers of two."""
    rows, columns = image.shape[:2]
    levels, offsets, start = [], [], 0
    tall: NDArray = image.astype(np.float32)
    while True:
        wide, line = tall, []
        while True:
            line.append(start)
            levels.append(np.rint(wide * 255).clip(0, 255).astype(np.uint8).reshape(-1, CHANNELS))
            start += len(levels[-1])
            if wide.shape[1] == 1:
                break
            wide = (wide[:, 0::2] + wide[:, 1::2]) / 2
        offsets.append(line)
        if tall.shape[0] == 1:
            break
        tall = (tall[0::2] + tall[1::2]) / 2
    texels = np.concatenate(levels)
    return Texture(
        texels=texels, offsets=np.array(offsets, np.int32), rows=rows, columns=columns, wrap_u=wrap_u, wrap_v=wrap_v
    )


def pick_level(footprint: Floats, size: int) -> NDArray[np.int32]:
    """Number of halvings at which a pixel of `footprint` (texels of level 0, > 0) covers about one texel."""
    exponent = ((footprint * np.float32(1.25)).view(np.int32) >> 23) - 127
    return np.minimum(np.maximum(exponent, 0), size.bit_length() - 1)


def sample_texture(
    texture: Texture, u: Floats, v: Floats, level_u: NDArray[np.int32], level_v: NDArray[np.int32]
) -> Floats:
    """Texels (N, 6) in 0..255 at u, v (N,) in periods of the texture; levels as `pick_level` gives them, (N,) or ()."""
    columns, rows = texture.columns >> level_u, texture.rows >> level_v
    x, y = u * columns.astype(np.float32) - np.float32(0.5), v * rows.astype(np.float32) - np.float32(0.5)
    left, low = np.floor(x), np.floor(y)
    right_part, high_part = (x - left)[:, None], (y - low)[:, None]
    left_column, right_column = _neighbours(left.astype(np.int32), columns, texture.wrap_u)
    low_row, high_row = _neighbours(low.astype(np.int32), rows, texture.wrap_v)
    start = texture.offsets[level_v, level_u]
    low_start, high_start = start + low_row * columns, start + high_row * columns
    low_mix = _mix_rows(texture.texels, low_start + left_column, low_start + right_column, right_part)
    high_mix = _mix_rows(texture.texels, high_start + left_column, high_start + right_column, right_part)
    high_mix -= low_mix
    high_mix *= high_part
    low_mix += high_mix
    return low_mix


def _neighbours(index: NDArray[np.int32], size: NDArray[np.int32], wrap: bool) -> tuple[NDArray, NDArray]:
    """The texels index and index + 1, kept within `size`."""
    following, last = index + 1, size - 1
    if wrap:
        return index & last, following & last
    return np.minimum(np.maximum(index, 0), last), np.minimum(np.maximum(following, 0), last)


def _mix_rows(texels: NDArray[np.uint8], left: NDArray[np.int32], right: NDArray[np.int32], part: Floats) -> Floats:
    """Rows (N, 6) `part` of the way from left to right. ndarray.take is ten times as fast as indexing here."""
    mix = texels.take(left, axis=0).astype(np.float32)
    step = texels.take(right, axis=0).astype(np.float32)
    step -= mix
    step *= part
    mix += step
    return mix
