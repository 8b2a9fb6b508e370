"""Masks written as one shard, for the clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from gsvnet.classes import ClassSet
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter


def write_masks(
    masks: Sequence[bytes], *, folder: Path, size: tuple[int, int], classes: ClassSet, num_rows: int
) -> str:
    """Where a new shard of num_rows rows was published below `folder`; masks are repeated as often as needed."""
    uri = shard_uri(str(folder / uuid4().hex), "clip", "000000")
    footer = ShardFooter(
        job="benchmark", video="clip", uri="clip", identity="clip", time_base="1/30", shard=0, first_frame=0,
        model_hash="", classes=classes, precision="fp32", device="cpu", threads=1,
    )  # fmt: skip
    pixels = [0] * len(classes)
    with ShardWriter(uri, footer=footer, spool_dir=folder, expected_rows=num_rows) as writer:
        for i in range(num_rows):
            row = FrameRow(
                frame_index=i, pts=i, time_s=i / 30, is_keyframe=i == 0, keyframe_distance=i, height=size[0],
                width=size[1], pixels=pixels, confidence=0.9, confidence_p05=0.5, mask=masks[i % len(masks)],
            )  # fmt: skip
            writer.append(row)
    return uri
