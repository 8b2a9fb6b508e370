"""Small outputs with known content: any labels, written as a job or as `gsvnet compact` leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.job import open_job
from gsvnet.store.layout import list_label_files, shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter, open_label_writer
from gsvnet.store.sources import Source, compacted_metadata, parse_sources
from gsvnet.store.write import ShardWriter

TICKS = 12800  # per second


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A frame to write. labels: (H, W) uint8; None: it was lost. interval: None: there are no keyframes.

    drift: agreement and IoU per class. by_class: confidence per class. uncertain: (H, W) uint8 of 0 and 1.
    """

    labels: np.ndarray | None
    time_s: float
    confidence: float | None = 0.9
    interval: int | None = 5
    size: tuple[int, int] = (12, 20)
    drift: tuple[float, Sequence[float]] | None = None
    by_class: Sequence[float] | None = None
    uncertain: np.ndarray | None = None
    damaged: bool = False


def write_video(
    out: str,
    video: str,
    frames: Sequence[Drawn],
    *,
    spool: Path,
    uri: str = "",
    shard_frames: int = 10**9,
    first_frame: int = 0,
    first_shard: int = 0,
    classes: ClassSet = CAMVID,
    storage_options: dict | None = None,
) -> None:
    """Publish the frames as shards of `shard_frames`."""
    spool.mkdir(exist_ok=True)
    job = open_job(out, {"keyframe_interval": 5}, classes=classes, model_hash="a" * 64, storage_options=storage_options)
    for number, start in enumerate(range(0, len(frames), shard_frames)):
        footer = ShardFooter(
            job=job.fingerprint,
            video=video,
            uri=uri or f"s3://videos/{video}.mp4",
            identity="1000:etag:abc",
            time_base=f"1/{TICKS}",
            shard=first_shard + number,
            first_frame=first_frame + start,
            model_hash="a" * 64,
            classes=classes,
            precision="fp32",
            device="cpu",
            threads=1,
        )
        target = shard_uri(out, video, f"{footer.shard:06d}")
        with ShardWriter(target, footer=footer, spool_dir=spool, storage_options=storage_options) as writer:
            for i, frame in enumerate(frames[start : start + shard_frames]):
                writer.append(draw_row(footer.first_frame + i, frame, classes))


def draw_row(index: int, frame: Drawn, classes: ClassSet) -> FrameRow:
    shape = frame.size if frame.labels is None else frame.labels.shape
    found = {} if frame.labels is None else {
        "pixels": pixel_counts(frame.labels, len(classes)),
        "mask": encode_mask(frame.labels),
        "confidence": frame.confidence,
        "confidence_p05": frame.confidence and frame.confidence / 2,
        "keyframe_interval": frame.interval,
        "drift_agreement": frame.drift and frame.drift[0],
        "drift_iou": frame.drift and frame.drift[1],
        "class_confidence": frame.by_class,
        "mask_uncertain": None if frame.uncertain is None else encode_mask(frame.uncertain),
    }  # fmt: skip
    return FrameRow(
        frame_index=index,
        pts=round(frame.time_s * TICKS),
        time_s=round(frame.time_s * TICKS) / TICKS,
        is_keyframe=frame.interval is not None and index % frame.interval == 0,
        keyframe_distance=frame.interval and index % frame.interval,
        height=shape[0],
        width=shape[1],
        status="decode_error" if frame.labels is None else "damaged" if frame.damaged else "ok",
        **found,
    )


def compact_by_hand(out: str, to: str, *, group_rows: int = 512, storage_options: dict | None = None) -> None:
    """Copy all rows of an output into one file of `to`, as FORMAT.md says of compacted outputs."""
    fs, _ = fsspec.core.url_to_fs(out, **(storage_options or {}))
    tables, sources, row = [], [], 0
    for path in list_label_files(out, storage_options):
        with fs.open(path, "rb") as file:
            table = pq.ParquetFile(file).read()
        (source,) = parse_sources(pq.read_metadata(fs.open(path, "rb")).metadata, path)
        sources.append(Source(footer=source.footer, row=row, num_rows=len(table)))
        tables.append(table)
        row += len(table)
    sink = pa.BufferOutputStream()
    writer = open_label_writer(sink, sources[0].footer.classes)
    whole = pa.concat_tables(tables)
    for start in range(0, len(whole), group_rows):
        writer.write_table(whole.slice(start, group_rows))
    writer.add_key_value_metadata(compacted_metadata(sources))
    writer.close()
    job = json.loads(fs.cat_file(f"{out}/_job.json"))
    target, _ = fsspec.core.url_to_fs(to, **(storage_options or {}))
    target.makedirs(f"{to}/labels/compacted", exist_ok=True)
    target.pipe_file(f"{to}/labels/compacted/000000.parquet", sink.getvalue().to_pybytes())
    target.pipe_file(f"{to}/_job.json", json.dumps({**job, "compacted": {"source": out}}).encode())
