"""What the columns after `mask` cost: `python -m tests.store.measure_columns`.

A minute of labels (1,800 rows, keyframes every 5 frames) is written in the first version's columns, with the later ones
null, and with them filled: half of the classes in each frame, with values that have nothing in common from frame to
frame, so that no compression helps. Last, the bytes of `mask_uncertain` beside those of `mask`, where neighbouring
frames of a drawn street differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.store.codec import encode_mask
from gsvnet.store.schema import FrameRow
from gsvnet.store.write import ShardWriter
from gsvnet.synthetic import SceneConfig, StreetScene
from tests.store.conftest import FOOTER
from tests.store.older import take_later_columns_away

NUM_ROWS, INTERVAL = 1800, 5


def main() -> None:
    for classes in (CAMVID, CITYSCAPES):
        with tempfile.TemporaryDirectory() as folder:
            first, null, filled = (Path(folder) / f"{name}.parquet" for name in ("first", "null", "filled"))
            for path, is_filled in ((first, False), (null, False), (filled, True)):
                write(path, classes, is_filled=is_filled)
            take_later_columns_away(first)
            sizes = [path.stat().st_size for path in (first, null, filled)]
            footers = [pq.read_metadata(path).serialized_size for path in (first, null, filled)]
        print(f"{len(classes)} classes: null +{sizes[1] - sizes[0]:,} bytes, filled +{sizes[2] - sizes[0]:,} bytes")
        print(f"  footers {footers[0]:,}, {footers[1]:,} and {footers[2]:,} bytes")
    print_uncertain()


def write(path: Path, classes: ClassSet, *, is_filled: bool) -> None:
    with ShardWriter(str(path), footer=replace(FOOTER, classes=classes), spool_dir=path.parent) as writer:
        for row in make_rows(len(classes), is_filled=is_filled):
            writer.append(row)


def make_rows(num_classes: int, *, is_filled: bool) -> Iterator[FrameRow]:
    rng = np.random.default_rng(0)
    mask = encode_mask(np.zeros((4, 4), np.uint8))
    for i in range(NUM_ROWS):
        by_class, iou = np.where(rng.permutation(num_classes) < num_classes // 2, rng.random((2, num_classes)), np.nan)
        row = FrameRow(
            frame_index=i,
            pts=i * 512,
            time_s=i / 25,
            is_keyframe=i % INTERVAL == 0,
            keyframe_distance=i % INTERVAL,
            height=4,
            width=4,
            pixels=[0] * num_classes,
            mask=mask,
        )
        if is_filled:
            row = replace(row, keyframe_interval=INTERVAL, class_confidence=by_class)
            if row.is_keyframe:
                row = replace(row, drift_agreement=float(rng.random()), drift_iou=iou)
        yield row


def print_uncertain() -> None:
    scene = StreetScene(SceneConfig(height=1024, width=2048, seed=0, cars=2, people=2))
    masks = uncertain = 0
    for i in range(0, 40, 4):
        here, there = scene.labels(i), scene.labels(i + 1)
        masks += len(encode_mask(here))
        uncertain += len(encode_mask((here != there).astype(np.uint8)))
    print(f"mask_uncertain of two neighbouring frames, 1024x2048: {uncertain / masks:.2f} of the bytes of their masks")


if __name__ == "__main__":
    main()
