"""Which frame each motion vector of a frame leads to.

FFmpeg does not say it, only whether a vector stands in the list of past or of future references, and encoders use
several by default. So it is found by looking: of the frames on that side, the one that shows the block best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 4  # per axis of a block, to compare it by
_STEP_PENALTY = 0.5  # grey levels by which a frame has to fit better than one that is a frame nearer
_VECTORS_AT_ONCE = 1 << 16  # at 1 kB each; a picture of 8192 x 4320 pixels has up to two million
_WORST_FIT = 10.0  # grey levels; where nothing fits better, the vector leads farther than was looked

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class CodedPicture:
    """What is needed of a decoded frame: vectors as FFmpeg's rows, luma (H, W) uint8 or None."""

    pts: int
    height: int
    width: int
    vectors: np.ndarray
    luma: NDArray[np.uint8] | None


def vectors_px(vectors: np.ndarray) -> Floats:
    """(2, M) float32: from each block to where it was found."""
    scale = vectors["motion_scale"].astype(np.float32)
    return np.stack((vectors["motion_x"] / scale, vectors["motion_y"] / scale)).astype(np.float32)


def find_distances(window: tuple[CodedPicture | None, ...]) -> NDArray[np.int8]:
    """(M,) int8: how many frames back each vector of the middle picture leads; negative: ahead; 0: not found.

    Where several frames fit alike, the nearest: nothing moves there, or nothing can be told apart.
    """
    here = window[len(window) // 2]
    assert here is not None
    best = np.zeros(len(here.vectors), np.int8)
    if here.luma is None:
        return best
    for start in range(0, len(best), _VECTORS_AT_ONCE):
        some = slice(start, start + _VECTORS_AT_ONCE)
        best[some] = _find_some(window, here.luma, here.vectors[some])
    return best


def _find_some(
    window: tuple[CodedPicture | None, ...], luma: NDArray[np.uint8], vectors: np.ndarray
) -> NDArray[np.int8]:
    reach, best = len(window) // 2, np.zeros(len(vectors), np.int8)
    x, y = _sample_points(vectors)
    block, shift = _sample(luma, x, y), vectors_px(vectors)[..., None]
    lowest = np.full(len(vectors), _WORST_FIT, np.float32)
    for distance in sorted((d for d in range(-reach, reach + 1) if d), key=abs):
        other, penalty = window[reach - distance], _STEP_PENALTY * (abs(distance) - 1)
        open_ = np.flatnonzero(((vectors["source"] < 0) == (distance > 0)) & (lowest > penalty))
        if other is None or other.luma is None or other.luma.shape != luma.shape or not len(open_):
            continue
        found = _sample(other.luma, x[open_] + shift[0, open_], y[open_] + shift[1, open_])
        cost = np.abs(found - block[open_]).mean(1) + penalty
        better = cost < lowest[open_]
        lowest[open_[better]], best[open_[better]] = cost[better], distance
    return best


def _sample_points(vectors: np.ndarray) -> tuple[Floats, Floats]:
    """x and y (M, 16) float32 of pixels spread evenly over each block."""
    place = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    x = vectors["dst_x"][:, None] + np.floor(place * vectors["w"][:, None])
    y = vectors["dst_y"][:, None] + np.floor(place * vectors["h"][:, None])
    x, y = np.repeat(x[:, None], _SAMPLES, 1), np.repeat(y[:, :, None], _SAMPLES, 2)
    return x.reshape(len(vectors), -1).astype(np.float32), y.reshape(len(vectors), -1).astype(np.float32)


def _sample(luma: NDArray[np.uint8], x: Floats, y: Floats) -> Floats:
    """Bilinear samples of a picture, whose border goes on outside, as codecs have it."""
    height, width = luma.shape
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    dx, dy = x - left, y - top
    upper = luma[top, left] * (1 - dx) + luma[top, right] * dx
    lower = luma[bottom, left] * (1 - dx) + luma[bottom, right] * dx
    return (upper * (1 - dy) + lower * dy).astype(np.float32)
