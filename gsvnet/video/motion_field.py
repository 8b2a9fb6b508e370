"""Motion of one frame as its codec stored it: a vector for every 8x8 pixels, and how many frames back it leads."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from gsvnet.video.frames import find_side_data
from gsvnet.video.references import CodedPicture, vectors_px

CELL_PX = 8  # FFmpeg reports no smaller blocks

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Distances = NDArray[np.int8]

_NO_VECTORS = np.zeros(
    0, [(name, np.int32) for name in ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")]
)


@dataclass(frozen=True, kw_only=True)
class FrameMotion:
    """Codec motion of one frame, in display orientation once it is brought to a grid.

    index: in the video, display order. pts: ticks. vector: (2, rows, columns) float32, per cell of 8x8 pixels of the
    frame as stored, (dx, dy) in stored pixels from the block to where it was found. distance: (rows, columns) int8,
    how many frames back that was; negative: ahead (B-frames); 0: no vector (intra blocks, interlaced, damaged and
    I-frames). height, width: of the frame as stored; all sizes are 0 for a lost frame. rotation: degrees
    counterclockwise that bring it upright.
    """

    index: int
    pts: int
    vector: Floats
    distance: Distances
    height: int
    width: int
    rotation: int = 0

    def on_grid(self, height: int, width: int) -> tuple[Floats, Distances]:
        """Vectors (2, height, width) in pixels of an upright grid of this size, and distances.

        Distances are those of the cell around each pixel; vectors are interpolated between cells of the same distance.
        """
        if self.rotation in (90, 270):
            height, width = width, height
        if not self.distance.size:
            vector, distance = np.zeros((2, height, width), np.float32), np.zeros((height, width), np.int8)
        else:
            y, x = ((np.arange(n) + 0.5) * s / n / CELL_PX for n, s in ((height, self.height), (width, self.width)))
            distance = self.distance[y.astype(np.intp)[:, None], x.astype(np.intp)]
            unit = np.array((width / self.width, height / self.height), np.float32)[:, None, None]
            vector = _interpolate(self.vector, self.distance, y, x) * unit
        for _ in range(self.rotation // 90):  # counterclockwise: right becomes up, down becomes right
            vector = np.rot90(np.stack((vector[1], -vector[0])), axes=(1, 2))
        return np.ascontiguousarray(vector), np.ascontiguousarray(np.rot90(distance, self.rotation // 90))

    def to_previous(self, height: int, width: int) -> tuple[Floats, Bools]:
        """Motion (2, height, width) current -> previous frame, in pixels of an upright grid, and where it is known.

        A vector over k frames counts a k-th part, and one that leads ahead is turned round: exact where the speed is
        constant. Elsewhere 0.
        """
        vector, distance = self.on_grid(height, width)
        return per_frame(vector, distance), distance != 0


def _interpolate(vector: Floats, distance: Distances, y: NDArray[np.float64], x: NDArray[np.float64]) -> Floats:
    """Vectors (2, h, w) at rows y (h,) and columns x (w,), in cells from the border, from cells of one distance each.

    The frames that cells lead to differ, so a vector to one says nothing of the way to another.
    """
    own = distance[y.astype(np.intp)[:, None], x.astype(np.intp)]
    result = np.zeros((2, *own.shape), np.float32)
    for wanted in np.unique(distance[distance != 0]):
        there = (distance == wanted)[None]
        sums = np.concatenate((vector * there, there.astype(np.float32)))
        *total, share = _lerp(_lerp(sums, y, 1), x, 2)
        result = np.where(own == wanted, np.stack(total) / np.where(own == wanted, share, 1), result)
    return result


def _lerp(values: Floats, place: NDArray[np.float64], axis: int) -> Floats:
    """Values between cells along an axis, at n places in cells from the border."""
    place = (place - 0.5).clip(0, values.shape[axis] - 1)
    first = place.astype(np.intp)
    second = np.minimum(first + 1, values.shape[axis] - 1)
    part = (place - first).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
    return values.take(first, axis) * (1 - part) + values.take(second, axis) * part


def per_frame(vector: Floats, distance: Distances) -> Floats:
    """Vectors (2, h, w) as motion to the previous frame, at constant speed; 0 where there is none."""
    return np.divide(vector, np.where(distance == 0, 1, distance), dtype=np.float32)


def see_picture(pts: int, picture: av.VideoFrame | None, *, with_luma: bool) -> CodedPicture:
    """What motion needs of a decoded frame. Vectors of fields, which count in fields, and of damage are left out."""
    if picture is None:
        return CodedPicture(pts, 0, 0, _NO_VECTORS, None)
    side_data = find_side_data(picture, "MOTION_VECTORS")
    usable = side_data is not None and not picture.interlaced_frame and not picture.is_corrupt
    # A copy: the array itself holds on to the picture.
    vectors = side_data.to_ndarray().copy() if side_data is not None and usable else _NO_VECTORS
    luma = np.asarray(picture.to_ndarray(format="gray"), np.uint8) if with_luma else None
    return CodedPicture(pts, picture.height, picture.width, vectors, luma)


def make_field(picture: CodedPicture, distances: Distances, *, index: int, rotation: int = 0) -> FrameMotion:
    """The motion of a frame whose vectors lead this many frames back, each (M,)."""
    vector, distance = _fill_cells(picture, distances)
    return FrameMotion(
        index=index,
        pts=picture.pts,
        vector=vector,
        distance=distance,
        height=picture.height,
        width=picture.width,
        rotation=rotation,
    )


def one_back(picture: CodedPicture) -> Distances:
    """(M,) int8: 1 for every vector that leads back, 0 for one that leads ahead. Right with one reference only."""
    return (picture.vectors["source"] < 0).astype(np.int8)


def _fill_cells(picture: CodedPicture, distances: Distances) -> tuple[Floats, Distances]:
    """Vector and distance of every cell. Where a block has two vectors, the one from the past stays."""
    rows, columns = -(-picture.height // CELL_PX), -(-picture.width // CELL_PX)
    vector, distance = np.zeros((2, rows, columns), np.float32), np.zeros((rows, columns), np.int8)
    order = np.argsort(distances, kind="stable")
    order = order[distances[order] != 0]
    vectors, distances, shift = picture.vectors[order], distances[order], vectors_px(picture.vectors[order])
    left, top = vectors["dst_x"] - vectors["w"] // 2, vectors["dst_y"] - vectors["h"] // 2
    for down in range(0, int(vectors["h"].max(initial=0)), CELL_PX):
        for along in range(0, int(vectors["w"].max(initial=0)), CELL_PX):
            row, column = (top + down) // CELL_PX, (left + along) // CELL_PX
            # blocks may reach out of the picture, which is coded in whole macroblocks
            part = (down < vectors["h"]) & (along < vectors["w"]) & (row < rows) & (column < columns)
            vector[:, row[part], column[part]] = shift[:, part]
            distance[row[part], column[part]] = distances[part]
    return vector, distance
