"""The columns of a label file, one row per frame, and what its footer says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, CorruptLabels, StoreError
from gsvnet.store.codec import CODEC

SCHEMA_VERSION = 1
PREFIX = "gsvnet."
MAX_ROW_GROUP_ROWS = 512
MAX_ROW_GROUP_BYTES = 8 * 2**20  # of masks

Status = Literal["ok", "decode_error"]

_REPEATED = ("video", "uri", "status", "codec")  # few values: dictionary-encoded


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """One frame; the video's id and URI are the shard's.

    frame_index: 0-based, display order. pts: ticks; time_s: seconds. keyframe_distance: frames to the keyframe used,
    None where a network has none. height, width: of the mask in pixels. pixels: (C,) int32, pixels per class.
    confidence, confidence_p05: 0..1. mask: `encode_mask`'s bytes. A lost frame ("decode_error") has None for the last
    five.
    """

    frame_index: int
    pts: int
    time_s: float
    is_keyframe: bool
    keyframe_distance: int | None
    height: int
    width: int
    status: Status = "ok"
    pixels: np.ndarray | Sequence[int] | None = None
    confidence: float | None = None
    confidence_p05: float | None = None
    codec: str | None = None
    mask: bytes | None = None

    def __post_init__(self) -> None:
        if self.status not in ("ok", "decode_error"):
            raise StoreError(f"frame {self.frame_index}: status {self.status!r}; allowed: ok, decode_error")
        if self.status == "ok" and self.codec is None:
            object.__setattr__(self, "codec", CODEC)
        labelled = self.mask is not None, self.pixels is not None, self.codec is not None
        if labelled != ((self.status == "ok"),) * 3 or (self.confidence is not None and self.status != "ok"):
            raise StoreError(f"frame {self.frame_index}: a row has mask, pixels and codec exactly if its status is ok")


@dataclass(frozen=True, kw_only=True)
class ShardFooter:
    """What a label file says about itself; the same for every attempt at the shard.

    job: fingerprint. video, uri, identity, time_base ("1/12800", seconds per tick): as planned. shard: its index in
    the video. precision: resolved, "fp32" or "bf16". device: "cpu" or "cuda". threads: per actor.
    decoder: what decoded the video, "cpu" or "nvdec".
    motion: where the motion came from that the network read, "codec" or "proxy"; None, and no key in the file: it reads
    none.
    smooth: over how many frames on either side the labels were smoothed along flow; None, and no key in the file: they
    were not.
    backed_off_to: chunks that ran as one batch where the job's batch did not fit into memory; None, and no key in the
    file: it did.
    """

    job: str
    video: str
    uri: str
    identity: str
    time_base: str
    shard: int
    first_frame: int
    model_hash: str
    classes: ClassSet
    precision: str
    device: str
    threads: int
    decoder: str = "cpu"
    motion: str | None = None
    smooth: int | None = None
    backed_off_to: int | None = None

    def to_metadata(self, num_rows: int) -> dict[str, str]:
        """Footer keys and values of a file with `num_rows` rows."""
        values = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        values |= {"classes": self.classes.to_dict(), "num_rows": num_rows, "schema_version": SCHEMA_VERSION}
        return {
            f"{PREFIX}{name}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for name, value in sorted(values.items())
        }


def label_schema(classes: ClassSet) -> pa.Schema:
    """Arrow schema of the label files of a job with these classes."""
    pixels = pa.struct([pa.field(name, pa.int32()) for name in classes.identifiers])
    return pa.schema(
        [
            pa.field("video", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("frame_index", pa.int64(), nullable=False),
            pa.field("pts", pa.int64(), nullable=False),
            pa.field("time_s", pa.float64(), nullable=False),
            pa.field("is_keyframe", pa.bool_(), nullable=False),
            pa.field("keyframe_distance", pa.int32()),
            pa.field("status", pa.string(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("pixels", pixels),
            pa.field("confidence", pa.float32()),
            pa.field("confidence_p05", pa.float32()),
            pa.field("codec", pa.string()),
            pa.field("mask", pa.binary()),
        ]
    )


def rows_to_table(rows: Sequence[FrameRow], footer: ShardFooter) -> pa.Table:
    """Arrow table of rows in the label schema. Raises StoreError where pixels do not fit the classes."""
    schema = label_schema(footer.classes)
    columns: list[pa.Array] = []
    for field in schema:
        if field.name in ("video", "uri"):
            columns.append(pa.array([getattr(footer, field.name)] * len(rows), pa.string()))
        elif field.name == "pixels":
            columns.append(_pixels_column(rows, footer.classes, field.type))
        else:
            columns.append(pa.array([getattr(row, field.name) for row in rows], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def table_to_rows(table: pa.Table) -> list[FrameRow]:
    """The rows of a table in the label schema."""
    names = [field.name for field in fields(FrameRow)]
    records = table.select(names).to_pylist()
    return [FrameRow(**{**r, "pixels": tuple(r["pixels"].values()) if r["pixels"] else None}) for r in records]


def open_label_writer(sink: BinaryIO, classes: ClassSet) -> pq.ParquetWriter:
    """Parquet writer with the layout that FORMAT.md promises; one `write_table` is one row group.

    Masks are compressed already and have no statistics; the other columns have both.
    """
    schema = label_schema(classes)
    leaves = [f"pixels.{name}" for name in classes.identifiers]
    leaves += [field.name for field in schema if field.name not in ("pixels", "mask")]
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression={**dict.fromkeys(leaves, "zstd"), "mask": "none"},
        compression_level=dict.fromkeys(leaves, 3),
        use_dictionary=list(_REPEATED),
        write_statistics=leaves,
        write_page_checksum=True,
        store_schema=False,
    )


def parse_footer(metadata: Mapping[bytes, bytes] | None, path: str) -> tuple[ShardFooter, int]:
    """Footer and number of rows that a file's key-value metadata states.

    Raises StoreError for a file that a newer version wrote, CorruptLabels for one that is no label file.
    """
    try:
        found = {k.decode(): v.decode() for k, v in (metadata or {}).items() if k.startswith(PREFIX.encode())}
        found.setdefault(f"{PREFIX}decoder", "cpu")  # all that the first files' writers had
        check_version(int(found[f"{PREFIX}schema_version"]), path)
        may_lack = {"backed_off_to", "motion", "smooth"} - {key.removeprefix(PREFIX) for key in found}
        names = [field.name for field in fields(ShardFooter) if field.name not in may_lack]
        values: dict[str, Any] = {name: found[PREFIX + name] for name in names}
        for name in {"shard", "first_frame", "threads", "smooth", "backed_off_to"} - may_lack:
            values[name] = int(values[name])
        values["classes"] = ClassSet.from_dict(json.loads(values["classes"]))
        return ShardFooter(**values), int(found[f"{PREFIX}num_rows"])
    except (KeyError, ValueError, ConfigError) as error:
        raise CorruptLabels(f"{path} is no label file of this program: footer key {error} is missing or bad") from error


def check_version(version: int, path: str) -> None:
    """Raise StoreError when a newer version of this program wrote the file."""
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema version {version}; this gsvnet reads up to {SCHEMA_VERSION}: upgrade it")


def _pixels_column(rows: Sequence[FrameRow], classes: ClassSet, kind: pa.DataType) -> pa.Array:
    counts = np.zeros((len(rows), len(classes)), np.int32)
    for i, row in enumerate(rows):
        if row.pixels is not None:
            if len(row.pixels) != len(classes):
                raise StoreError(f"frame {row.frame_index}: {len(row.pixels)} pixel counts for {len(classes)} classes")
            counts[i] = row.pixels
    lost = pa.array([row.pixels is None for row in rows])
    return pa.StructArray.from_arrays([pa.array(c) for c in counts.T], fields=list(kind), mask=lost)
