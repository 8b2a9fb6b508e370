"""Motion over many frames, from the steps between them: to the keyframe before, and to the one after.

AR-Seg (Hu et al., CVPR 2023) adds up vectors from frame to frame, to the nearest pixel each time. Here motion is
followed along the references that were really used, with parts of a pixel: on a grid of one cell for every 8 pixels
most steps are shorter than a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsvnet.video.motion_field import Bools, Distances, Floats, FrameMotion, per_frame

Indices = NDArray[np.intp]


def trace_to_keyframe(chunk: Sequence[FrameMotion], height: int, width: int) -> tuple[Floats, Bools]:
    """Motion (L, 2, height, width) from each frame of a chunk to its first, grid pixels, and where it is known.

    Each step ends between pixels; the way on from there is interpolated. Not known is the motion of pixels without a
    vector, whose way leads out of the frame, to a frame outside the chunk, or to where it is not known itself: after
    an I-frame within the chunk, nothing is. Such a pixel goes at the speed of its vector, and stays in place without.
    """
    fields = [frame.on_grid(height, width) for frame in chunk]
    motion, known = _unknown(len(chunk), height, width)
    known[0] = True
    # Frames that lead ahead wait for those they lead to; where frames were mistaken, some never get there.
    rounds = len(chunk) if any((distance < 0).any() for _, distance in fields[1:]) else 1
    num_known = -1
    while rounds and num_known < known.sum():
        rounds, num_known = rounds - 1, known.sum()
        for t in range(1, len(chunk)):
            motion[:, t], known[t] = _follow(motion, known, t, *fields[t])
    return np.ascontiguousarray(motion.swapaxes(0, 1)), known


def _follow(motion: Floats, known: Bools, t: int, vector: Floats, distance: Distances) -> tuple[Floats, Bools]:
    """Motion (2, h, w) of frame t to the first frame, by what is known of the frames that its vectors lead to."""
    parent = t - distance.astype(np.intp)
    direct = (distance > 0) & (parent >= 0)
    ahead = (distance < 0) & (parent < len(known))
    if ahead.any():
        direct |= ahead & _sample(motion, known, np.where(ahead, parent, t), vector)[1]
    step = np.where(direct, vector, per_frame(vector, distance))
    rest, rest_known = _sample(motion, known, np.where(direct, parent, t - 1), step)
    return step + rest, direct & rest_known & _is_inside(step + rest)


def trace_to_next_keyframe(
    chunk: Sequence[FrameMotion], next_keyframe: FrameMotion, height: int, width: int
) -> tuple[Floats, Bools]:
    """Motion (L, 2, height, width) from each frame of a chunk to the keyframe after it, and where it is known.

    Codecs look back, so each frame's motion to the one before is turned round: what was found here is where the block
    came from. A vector over several frames counts at constant speed. Not known is the motion of pixels that no later
    block came from, and all of it where the next keyframe has no vectors. Such a pixel stays in place.
    """
    motion, known = _unknown(len(chunk) + 1, height, width)
    known[-1] = True
    for t, later in reversed(list(enumerate((*chunk[1:], next_keyframe)))):
        step, found = _turn_round(*later.to_previous(height, width))
        rest, rest_known = _sample(motion, known, t + 1, step)
        motion[:, t], known[t] = step + rest, found & rest_known & _is_inside(step + rest)
    return np.ascontiguousarray(motion[:, :-1].swapaxes(0, 1)), known[:-1]


def _unknown(num_frames: int, height: int, width: int) -> tuple[Floats, Bools]:
    """Motion (2, num_frames, height, width), in which pixels lie one after the other for `_sample`, and known."""
    return np.zeros((2, num_frames, height, width), np.float32), np.zeros((num_frames, height, width), bool)


def _is_inside(motion: Floats) -> Bools:
    """Where motion (2, h, w) from each pixel ends in the frame. Short steps do not show it: each ends at the border."""
    height, width = motion.shape[1:]
    x, y = motion[0] + np.arange(width), motion[1] + np.arange(height)[:, None]
    return np.asarray((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))


def _sample(motion: Floats, known: Bools, frame: Indices | int, step: Floats) -> tuple[Floats, Bools]:
    """Motion (2, h, w) of `frame` (h, w) at the end of a step (2, h, w) from each pixel, and where it is known.

    Interpolated between the four pixels around, of which those that are not known count nothing.
    """
    height, width = known.shape[1:]
    x, y = step[0] + np.arange(width, dtype=np.float32), step[1] + np.arange(height, dtype=np.float32)[:, None]
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    along, down = x - left, y - top
    right, below = (left + 1 < width).astype(np.intp), (top + 1 < height).astype(np.intp) * width
    place = (frame * height + top) * width + left
    values, is_known = motion.reshape(2, -1), known.reshape(-1)
    total, plain, share = np.zeros_like(step), np.zeros_like(step), np.zeros_like(x)
    for weight, shift in (
        ((1 - down) * (1 - along), 0), ((1 - down) * along, right), (down * (1 - along), below),
        (down * along, below + right),
    ):  # fmt: skip
        corner = place + shift
        value, counts = values.take(corner, 1) * weight, is_known.take(corner)
        total, plain, share = total + value * counts, plain + value, share + weight * counts
    return np.where(share > 0, total / np.where(share > 0, share, 1), plain), _is_inside(step) & (share >= 0.5)


def _turn_round(vector: Floats, valid: Bools) -> tuple[Floats, Bools]:
    """Steps (2, h, w) from one frame to another, from the vectors of the other, and where some pixel came from."""
    height, width = valid.shape
    row, column = np.nonzero(valid)
    back = vector[:, row, column]
    x, y = column + back[0], row + back[1]
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    total = np.zeros(height * width)
    sums = np.zeros((2, height * width))
    for j in (0, 1):
        for i in (0, 1):
            r, c = top + j, left + i
            weight = (1 - np.abs(y - r)) * (1 - np.abs(x - c))
            part = (r >= 0) & (r < height) & (c >= 0) & (c < width) & (weight > 0)
            place = r[part] * width + c[part]
            total += np.bincount(place, weight[part], height * width)
            for axis in (0, 1):
                sums[axis] += np.bincount(place, weight[part] * -back[axis][part], height * width)
    step = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    return step.reshape(2, height, width).astype(np.float32), (total >= 0.25).reshape(height, width)
