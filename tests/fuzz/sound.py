"""A small sound output to start from: two classes, a dozen frames of 6 x 8 pixels in two row groups, one frame lost."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from gsvnet.classes import ClassSet
from gsvnet.store.codec import CODEC, encode_and_count, encode_mask
from gsvnet.store.job import fingerprint
from gsvnet.store.schema import SCHEMA_VERSION, FrameRow, ShardFooter, open_label_writer, rows_to_table
from gsvnet.store.sources import Source, SourceFile, compacted_metadata

CLASSES = ClassSet(name="two", names=("road", "traffic light"), colours=((128, 64, 128), (250, 170, 30)))
HEIGHT, WIDTH, NUM_FRAMES, GROUP_ROWS = 6, 8, 12, 7
VIDEO, SHARD = "drive-0123456789ab", "000000"
LABEL_PATH, PLAN_PATH = f"labels/{VIDEO}/{SHARD}.parquet", f"_plan/{VIDEO}.json"
COMPACTED_PATH = "labels/compacted/000000.parquet"
FAILURE_PATH = f"_failed/{VIDEO}/000001.json"

FIELDS = {
    "keyframe_interval": 5,
    "model_settings": {"family": "gsvnet"},
    "classes": CLASSES.to_dict(),
    "model_hash": "a" * 64,
    "codec": CODEC,
    "schema_version": SCHEMA_VERSION,
}
FOOTER = ShardFooter(
    job=fingerprint(json.loads(json.dumps(FIELDS))),
    video=VIDEO,
    uri="s3://videos/drive.mp4",
    identity="1000:etag:abc",
    time_base="1/12800",
    shard=0,
    first_frame=0,
    model_hash="a" * 64,
    classes=CLASSES,
    precision="fp32",
    device="cpu",
    threads=1,
)
JOB = {"fields": FIELDS, "fingerprint": FOOTER.job}
PLAN = {
    "version": 1,
    "rule": {"interval": 5, "shard_seconds": 60.0, "shard_frames": 20_000, "before": 1},
    "video": {
        "id": VIDEO,
        "uri": FOOTER.uri,
        "identity": FOOTER.identity,
        "height": HEIGHT,
        "width": WIDTH,
        "rotation": 0,
        "time_base": "1/12800",
        "num_frames": NUM_FRAMES,
    },
    "shards": [
        {
            "video_id": VIDEO,
            "index": 0,
            "first_frame": 0,
            "num_frames": NUM_FRAMES,
            "start_pts": 0,
            "end_pts": None,
            "restarts": [7],
        }
    ],
    "numbers_from": "index",
    "problems": [],
    "end_pts": NUM_FRAMES * 512,
    "motion": {"source": "codec", "reason": "one reference", "max_distance": 1},
    "reaches": [{"first_frame": 0, "start_pts": 0, "end_pts": None}],
}
FAILURE = {
    "video": VIDEO,
    "uri": FOOTER.uri,
    "shard": "000001",
    "error": "DecodeError",
    "message": "stopped",
    "attempts": 2,
}


def make_row(index: int) -> FrameRow:
    """A row with a value in every column; frame 3 is lost."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[2:4, : index % WIDTH] = 1
    labels[0, 0] = 255
    mask, pixels = encode_and_count(labels, len(CLASSES))
    first = index % 5 == 0
    place = {
        "frame_index": index,
        "pts": index * 512,
        "time_s": index * 512 / 12800,
        "is_keyframe": first,
        "keyframe_distance": index % 5,
        "height": HEIGHT,
        "width": WIDTH,
    }
    if index == 3:
        return FrameRow(**place, status="decode_error")
    return FrameRow(
        **place,
        pixels=pixels,
        confidence=0.75,
        confidence_p05=0.25,
        mask=mask,
        keyframe_interval=5,
        drift_agreement=0.875 if first else None,
        drift_iou=(0.5, np.nan) if first else None,
        class_confidence=(0.75, np.nan),
        mask_uncertain=encode_mask(labels // 2 % 2) if index % 5 else None,
    )


def make_table() -> pa.Table:
    """The rows of the label file."""
    return rows_to_table([make_row(index) for index in range(NUM_FRAMES)], FOOTER)


def write_labels(table: pa.Table, metadata: dict[str, str], group_rows: int) -> bytes:
    """A label file as the program writes it, of a table in the label schema."""
    sink = io.BytesIO()
    with open_label_writer(sink, CLASSES) as writer:
        for start in range(0, len(table), group_rows):
            writer.write_table(table.slice(start, group_rows))
        writer.add_key_value_metadata(metadata)
    return sink.getvalue()


def make_keys(*, compacted: bool = False) -> dict[str, str]:
    """Footer keys of the label file; compacted: as if its two row groups had been two shards."""
    if not compacted:
        return FOOTER.to_metadata(NUM_FRAMES)
    file = SourceFile(path=LABEL_PATH, num_bytes=1000, sha256="0" * 64)
    second = replace(FOOTER, shard=1, first_frame=GROUP_ROWS)
    return compacted_metadata(
        [
            Source(footer=FOOTER, row=0, num_rows=GROUP_ROWS, file=file),
            Source(footer=second, row=GROUP_ROWS, num_rows=NUM_FRAMES - GROUP_ROWS, file=file),
        ]
    )


def make_labels(*, compacted: bool = False) -> bytes:
    """The label file."""
    return write_labels(make_table(), make_keys(compacted=compacted), GROUP_ROWS)


@dataclass(frozen=True)
class Folder:
    """An output on local disk, file by file."""

    path: Path

    @property
    def out(self) -> str:
        """The output as commands name it."""
        return str(self.path)

    def write(self, name: str, content: bytes | dict) -> None:
        """Put a file in the place of another, or of none."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
