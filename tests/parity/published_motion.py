"""Motion to the first frame as AR-Seg's authors accumulate it: in whole pixels, block edges and all.

`gsvnet.video.tracing` is more exact; this is what their weights were trained on.
"""

from __future__ import annotations

import numpy as np

_MOST_REFERENCES = 3  # any other reference index is what their decoder leaves at intra blocks


def merge_motion(vectors: np.ndarray) -> np.ndarray:
    """Motion from each of F frames to the frame before them all, (F, H, W, 2) int16, (dx, dy) in quarter pixels.

    vectors: (F, H, W, 3) int16, of each pixel (dx, dy) in quarter pixels and the reference index: how many frames back
    the reference lies, less one. Steps are rounded to whole pixels, half to even, and end in the frame. An index beyond
    0..2 counts as no motion from the frame before.
    """
    height, width = vectors.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    origins = [(rows, columns)]  # of every pixel of frame 0, 1, ...: where it came from in frame 0
    for number, frame in enumerate(vectors, start=1):
        known = (frame[..., 2] >= 0) & (frame[..., 2] < _MOST_REFERENCES)
        steps = np.where(known[..., None], np.rint(frame[..., :2] / 4), 0).astype(np.int64)
        x = np.clip(columns + steps[..., 0], 0, width - 1)
        y = np.clip(rows + steps[..., 1], 0, height - 1)
        back = np.where(known, frame[..., 2], 0) + 1
        origin_y, origin_x = np.empty_like(rows), np.empty_like(columns)
        for distance in np.unique(back):
            there = back == distance
            from_y, from_x = origins[max(0, number - int(distance))]
            origin_y[there], origin_x[there] = from_y[y[there], x[there]], from_x[y[there], x[there]]
        origins.append((origin_y, origin_x))
    moved = [np.stack([x - columns, y - rows], axis=-1) for y, x in origins[1:]]
    return (np.stack(moved) * 4).astype(np.int16)
