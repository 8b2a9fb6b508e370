"""Codec motion: where the encoder found each block of a frame in another one. It comes with decoding, for free.

FFmpeg gives vectors out for H.264 and the MPEG-1, -2 and -4 family; none for HEVC, VP9, AV1 and MJPEG, and none for
I-frames. Which frame a vector leads to is found in `references.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import av
import numpy as np
from numpy.typing import NDArray

from gsvnet.errors import ConfigError
from gsvnet.uris import StorageOptions
from gsvnet.video.decode import read_pictures
from gsvnet.video.references import CodedPicture, find_distances, vectors_px

CELL_PX = 8  # FFmpeg reports no smaller blocks

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Distances = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class FrameMotion:
    """Codec motion of one frame, in display orientation once it is brought to a grid.

    index: in the video, display order. pts: ticks. vector: (2, rows, columns) float32, per cell of 8x8 pixels of the
    frame as stored, (dx, dy) in stored pixels from the block to where it was found. distance: (rows, columns) int8,
    how many frames back that was; negative: ahead (B-frames); 0: no vector (intra blocks, interlaced and I-frames).
    height, width: of the frame as stored; all sizes are 0 for a lost frame. rotation: degrees counterclockwise that
    bring it upright.
    """

    index: int
    pts: int
    vector: Floats
    distance: Distances
    height: int
    width: int
    rotation: int = 0

    def on_grid(self, height: int, width: int) -> tuple[Floats, Distances]:
        """Vectors (2, height, width) in pixels of an upright grid of this size, and distances; nearest cell."""
        if self.rotation in (90, 270):
            height, width = width, height
        if not self.distance.size:
            vector, distance = np.zeros((2, height, width), np.float32), np.zeros((height, width), np.int8)
        else:
            rows = ((np.arange(height) + 0.5) * self.height / height / CELL_PX).astype(np.intp)[:, None]
            columns = ((np.arange(width) + 0.5) * self.width / width / CELL_PX).astype(np.intp)
            unit = np.array((width / self.width, height / self.height), np.float32)[:, None, None]
            vector, distance = self.vector[:, rows, columns] * unit, self.distance[rows, columns]
        for _ in range(self.rotation // 90):  # counterclockwise: right becomes up, down becomes right
            vector = np.rot90(np.stack((vector[1], -vector[0])), axes=(1, 2))
        return np.ascontiguousarray(vector), np.ascontiguousarray(np.rot90(distance, self.rotation // 90))

    def to_previous(self, height: int, width: int) -> tuple[Floats, Bools]:
        """Motion (2, height, width) current -> previous frame, in pixels of an upright grid, and where it is known.

        A vector over k frames counts a k-th part, and one that leads ahead is turned round: exact where the speed is
        constant. Elsewhere 0.
        """
        vector, distance = self.on_grid(height, width)
        return _per_frame(vector, distance), distance != 0


def read_motion(
    uri: str,
    *,
    first_frame: int = 0,
    start_pts: int = 0,
    end_pts: int | None = None,
    rotation: int = 0,
    max_distance: int = 4,
    threads: int = 1,
    storage_options: StorageOptions | None = None,
) -> Iterator[FrameMotion]:
    """Motion of every frame with start_pts <= pts < end_pts, in display order: the frames of `read_frames`.

    Start at an I-frame: a vector that leads out of the range has no distance. max_distance: how many frames away a
    reference is looked for. At 1 nothing is looked for and every vector is taken to lead to the previous frame, which
    is right for streams with one reference and without B-frames; vectors that lead ahead are dropped then.
    Raises as `read_frames` does, and ConfigError for a max_distance below 1.
    """
    if max_distance < 1:
        raise ConfigError(f"max_distance {max_distance}: must be at least 1")
    pictures = read_pictures(
        uri, start_pts=start_pts, end_pts=end_pts, threads=threads, motion=True, storage_options=storage_options
    )
    looks = max_distance > 1
    seen = (_see(pts, picture, with_luma=looks) for pts, picture in pictures)
    for index, window in enumerate(_with_neighbours(seen, max_distance if looks else 0), start=first_frame):
        here = window[len(window) // 2]
        assert here is not None
        distances = find_distances(window) if looks else (here.vectors["source"] < 0).astype(np.int8)
        vector, distance = _fill_cells(here, distances)
        yield FrameMotion(
            index=index,
            pts=here.pts,
            vector=vector,
            distance=distance,
            height=here.height,
            width=here.width,
            rotation=rotation,
        )


def trace_to_keyframe(chunk: Sequence[FrameMotion], height: int, width: int) -> tuple[Floats, Bools]:
    """Motion (L, 2, height, width) from each frame of a chunk to its first, grid pixels, and where it is known.

    Every pixel is followed from reference to reference, to the nearest pixel each time. Where there is no vector it
    stays in place, one frame back, and what comes of it is not known: after an I-frame within the chunk, nothing is.
    As AR-Seg does (Hu et al., CVPR 2023), but along the references that were really used.
    """
    motion: list[Floats] = [np.zeros((2, height, width), np.float32)]
    known: list[Bools] = [np.ones((height, width), bool)]
    y, x = np.indices((height, width))
    for t, frame in enumerate(chunk[1:], start=1):
        vector, distance = frame.on_grid(height, width)
        direct = (distance > 0) & (distance <= t)
        step = np.where(direct, vector, _per_frame(vector, distance))
        parent = np.where(direct, t - distance, t - 1)
        column, row = np.rint(x + step[0]).astype(np.intp), np.rint(y + step[1]).astype(np.intp)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column, row = column.clip(0, width - 1), row.clip(0, height - 1)
        motion.append(step + np.stack(motion)[parent, :, row, column].transpose(2, 0, 1))
        known.append((distance != 0) & inside & np.stack(known)[parent, row, column])
    return np.stack(motion), np.stack(known)


def _per_frame(vector: Floats, distance: Distances) -> Floats:
    return np.divide(vector, np.where(distance == 0, 1, distance), dtype=np.float32)


_NO_VECTORS = np.zeros(
    0, [(name, np.int32) for name in ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")]
)


def _see(pts: int, picture: av.VideoFrame | None, *, with_luma: bool) -> CodedPicture:
    if picture is None:
        return CodedPicture(pts, 0, 0, _NO_VECTORS, None)
    side_data = picture.side_data.get("MOTION_VECTORS")
    # vectors of fields count in fields
    vectors = _NO_VECTORS if side_data is None or picture.interlaced_frame else side_data.to_ndarray()
    luma = np.asarray(picture.to_ndarray(format="gray"), np.uint8) if with_luma else None
    return CodedPicture(pts, picture.height, picture.width, vectors, luma)


def _with_neighbours(pictures: Iterable[CodedPicture], reach: int) -> Iterator[tuple[CodedPicture | None, ...]]:
    """Each picture in the middle of the `reach` before and after it, None beyond the ends."""
    window: deque[CodedPicture | None] = deque([None] * (2 * reach + 1), maxlen=2 * reach + 1)
    for picture in chain(pictures, repeat(None, reach)):
        window.append(picture)
        if window[reach] is not None:
            yield tuple(window)


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
