"""Wrote tests/store/schema1.parquet, once, with gsvnet 0.1.0: `python -m tests.store.make_schema1 FILE`.

The stored file never changes: it stands for all that version 1 ever wrote, and every later gsvnet must read it. For a
new schema version write a new script and a new file beside this one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import gsvnet.store.write as write
from gsvnet.classes import ClassSet
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.schema import FrameRow, ShardFooter

CLASSES = ClassSet(
    name="three",
    names=("road", "traffic light", "Gehweg für Fußgänger"),
    colours=((128, 64, 128), (250, 170, 30), (1, 2, 3)),
)
FIRST_FRAME, HEIGHT, WIDTH, LOST = 100, 6, 9, 103


def draw(index: int) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    if index == 104:  # noise: stored without contours
        return ((y * WIDTH + x) * 7 % 5 % 3).astype(np.uint8)
    if index == 105:
        return np.full((HEIGHT, WIDTH), 255, np.uint8)
    labels = np.where(x + y // 2 > index - 97, 1, 0).astype(np.uint8)
    labels[4:, :3] = 2
    labels[0, -1] = 255
    return labels


def make_row(index: int) -> FrameRow:
    lost = index == LOST
    return FrameRow(
        frame_index=index,
        pts=index * 1001 + (index > 104),  # variable frame rate
        time_s=(index * 1001 + (index > 104)) / 30000,
        is_keyframe=index % 3 == 0,
        keyframe_distance=None if index == 106 else index % 3,
        height=HEIGHT,
        width=WIDTH,
        status="decode_error" if lost else "ok",
        pixels=None if lost else pixel_counts(draw(index), len(CLASSES)),
        confidence=None if lost else index / 128,
        confidence_p05=None if lost else index / 256,
        mask=None if lost else encode_mask(draw(index)),
    )


def main() -> None:
    target = Path(sys.argv[1]).absolute()
    write.MAX_ROW_GROUP_ROWS = 4
    footer = ShardFooter(
        job="0123456789abcdef" * 4,
        video="drive-0123456789ab",
        uri="s3://videos/drive.mp4",
        identity="1000:etag:abc",
        time_base="1/30000",
        shard=2,
        first_frame=FIRST_FRAME,
        model_hash="a" * 64,
        classes=CLASSES,
        precision="bf16",
        device="cuda",
        threads=2,
    )
    with write.ShardWriter(str(target), footer=footer, spool_dir=target.parent) as writer:
        for index in range(FIRST_FRAME, FIRST_FRAME + 7):
            writer.append(make_row(index))


if __name__ == "__main__":
    main()
