"""Small outputs to read: drawn maps in CamVid's classes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsvnet.classes import CAMVID
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.job import open_job
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter

HEIGHT, WIDTH = 12, 20
FOOTER = ShardFooter(
    job="f" * 64,
    video="drive-0123456789ab",
    uri="s3://videos/drive.mp4",
    identity="size=1000 etag=abc",
    time_base="1/12800",
    shard=0,
    first_frame=0,
    model_hash="a" * 64,
    classes=CAMVID,
    precision="fp32",
    device="cpu",
    threads=1,
)


def draw_labels(index: int) -> np.ndarray:
    """Sky, road and a car (class 8) whose width grows with the frame index, from 0 to WIDTH - 1."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[7:] = 3
    labels[6:9, : index % WIDTH] = 8
    labels[0, 0] = 255
    return labels


def make_row(index: int, *, lost: bool = False) -> FrameRow:
    row = FrameRow(
        frame_index=index,
        pts=index * 512,
        time_s=index * 512 / 12800,
        is_keyframe=index % 5 == 0,
        keyframe_distance=index % 5,
        height=HEIGHT,
        width=WIDTH,
        pixels=pixel_counts(draw_labels(index), len(CAMVID)),
        confidence=0.5 + index % 50 / 100,
        confidence_p05=0.25,
        mask=encode_mask(draw_labels(index)),
    )
    nothing = {"pixels": None, "confidence": None, "confidence_p05": None, "codec": None, "mask": None}
    return replace(row, status="decode_error", **nothing) if lost else row


def draw_uncertain(index: int) -> np.ndarray:
    """1 in a part of one row that grows with the frame index."""
    uncertain = np.zeros((HEIGHT, WIDTH), np.uint8)
    uncertain[8, : index % WIDTH] = 1
    return uncertain


def make_full_row(index: int) -> FrameRow:
    """A row with a value in every column; drift where a chunk begins, class 2 in no per-class value."""
    row = make_row(index)
    by_class = np.where(np.arange(len(CAMVID)) == 2, np.nan, index % 8 / 8)
    return replace(
        row,
        keyframe_interval=5,
        drift_agreement=1 - index % 16 / 16 if row.is_keyframe else None,
        drift_iou=by_class / 2 if row.is_keyframe else None,
        class_confidence=by_class,
        mask_uncertain=encode_mask(draw_uncertain(index)) if index % 5 else None,
    )


@pytest.fixture(scope="session")
def footer() -> ShardFooter:
    return FOOTER


@pytest.fixture(scope="session")
def labels_of() -> Callable[[int], np.ndarray]:
    return draw_labels


@pytest.fixture(scope="session")
def row_of() -> Callable[..., FrameRow]:
    return make_row


@pytest.fixture(scope="session")
def full_row_of() -> Callable[[int], FrameRow]:
    return make_full_row


@pytest.fixture(scope="session")
def uncertain_of() -> Callable[[int], np.ndarray]:
    return draw_uncertain


@pytest.fixture
def write_shard(tmp_path) -> Callable[..., str]:
    """Publish one shard of an output with a job record; its URI."""

    def write(
        out: str,
        *,
        shard: int = 0,
        first_frame: int = 0,
        num_frames: int = 10,
        lost: Collection[int] = (),
        video: str = FOOTER.video,
        uri: str = FOOTER.uri,
        full: bool = False,
    ) -> str:
        spool = Path(tmp_path) / "spool"
        spool.mkdir(exist_ok=True)
        job = open_job(out, {"keyframe_interval": 5}, classes=CAMVID, model_hash="a" * 64)
        footer = replace(FOOTER, job=job.fingerprint, video=video, uri=uri, shard=shard, first_frame=first_frame)
        target = shard_uri(out, video, f"{shard:06d}")
        with ShardWriter(target, footer=footer, spool_dir=spool) as writer:
            for index in range(first_frame, first_frame + num_frames):
                writer.append(make_full_row(index) if full else make_row(index, lost=index in lost))
        return target

    return write
