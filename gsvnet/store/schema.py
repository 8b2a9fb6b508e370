"""The columns of a label file, one row per frame, and what its footer says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, BinaryIO, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.choices import FrameStatus
from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, CorruptLabels, StoreError
from gsvnet.store.codec import CODEC

SCHEMA_VERSION = 1
PREFIX = "gsvnet."
MAX_ROW_GROUP_ROWS = 512
MAX_ROW_GROUP_BYTES = 8 * 2**20  # of masks

LABELED = ("ok", "damaged")  # statuses of frames that have labels

ENCODED_MASKS = ("mask", "mask_uncertain")  # not compressed again, without statistics
PER_CLASS = ("drift_iou", "class_confidence")
ONLY_OF_LABELED = (
    "confidence", "confidence_p05", "keyframe_interval", "drift_agreement", "drift_iou", "class_confidence",
    "mask_uncertain",
)  # fmt: skip
_REPEATED = ("video", "uri", "status", "codec")  # few values: dictionary-encoded
ROUNDING = 1e-5  # a mean of float32 probabilities may be so far above 1


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """One frame; the video's id and URI are the shard's.

    frame_index: 0-based, display order. pts: ticks; time_s: seconds. keyframe_distance: frames to the keyframe used,
    None where a network has none. height, width: of the mask in pixels. pixels: (C,) int32, pixels per class.
    confidence, confidence_p05: 0..1. mask: `encode_mask`'s bytes. status "damaged": labels of a picture that may not
    be what was filmed. A lost frame ("decode_error") has None from pixels on. keyframe_interval: most frames per chunk
    where the frame is, None where a network has no keyframes.
    drift_agreement (0..1), drift_iou (C,) float, NaN for a class that neither side has: how far the chunk that this
    keyframe begins agrees with the keyframe after it; None of other frames, and where it was not measured.
    class_confidence: (C,) float in 0..1, like confidence over what is labeled with each class, NaN where nothing is.
    mask_uncertain: like mask, 1 where ways to the frame's labels differ, else 0; None where there is one way only.
    """

    frame_index: int
    pts: int
    time_s: float
    is_keyframe: bool
    keyframe_distance: int | None
    height: int
    width: int
    status: FrameStatus = "ok"
    pixels: np.ndarray | Sequence[int] | None = None
    confidence: float | None = None
    confidence_p05: float | None = None
    codec: str | None = None
    mask: bytes | None = None
    keyframe_interval: int | None = None
    drift_agreement: float | None = None
    drift_iou: np.ndarray | Sequence[float] | None = None
    class_confidence: np.ndarray | Sequence[float] | None = None
    mask_uncertain: bytes | None = None

    def __post_init__(self) -> None:
        if self.status not in (allowed := get_args(FrameStatus)):
            raise StoreError(f"frame {self.frame_index}: status {self.status!r}; allowed: {', '.join(allowed)}")
        is_labeled = not self.is_lost
        if is_labeled and self.codec is None:
            object.__setattr__(self, "codec", CODEC)
        if (self.mask is not None, self.pixels is not None, self.codec is not None) != (is_labeled,) * 3:
            raise StoreError(
                f"frame {self.frame_index}: a row has mask, pixels and codec exactly if its status is ok or damaged"
            )
        if not is_labeled and (given := [name for name in ONLY_OF_LABELED if getattr(self, name) is not None]):
            raise StoreError(f"frame {self.frame_index}: {', '.join(given)} of a frame whose status is {self.status!r}")
        self._check_quality()

    @property
    def is_lost(self) -> bool:
        """Whether it has no labels."""
        return self.status not in LABELED

    def _check_quality(self) -> None:
        where, has_drift = f"frame {self.frame_index}", self.drift_agreement is not None
        if self.keyframe_interval is not None and self.keyframe_interval < 1:
            raise StoreError(f"{where}: keyframe_interval {self.keyframe_interval}; it must be at least 1")
        if has_drift != (self.drift_iou is not None):
            raise StoreError(f"{where}: a row has drift_agreement and drift_iou together or neither")
        if has_drift and not self.is_keyframe:
            raise StoreError(f"{where}: drift is a keyframe's, of the chunk that it begins; this frame is none")
        if self.drift_agreement is not None and not 0 <= self.drift_agreement <= 1:
            raise StoreError(f"{where}: drift_agreement {self.drift_agreement}; it must be 0..1")
        for name in PER_CLASS:
            if (given := getattr(self, name)) is not None:
                values = np.asarray(given, np.float64)
                if len(wrong := values[(values < 0) | (values > 1 + ROUNDING)]):
                    raise StoreError(f"{where}: {name} {wrong[0]:g}; it must be 0..1, or NaN where there is no pixel")


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
    """Arrow schema of the label files that are written now for a job with these classes."""
    return pa.schema([*first_schema(classes), *later_schema(classes)])


def first_schema(classes: ClassSet) -> pa.Schema:
    """The columns that every label file of version 1 has, and begins with."""
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


def later_schema(classes: ClassSet) -> pa.Schema:
    """The columns that came later and may be null: files that were written before have none of them."""
    per_class = pa.struct([pa.field(name, pa.float32()) for name in classes.identifiers])
    return pa.schema(
        [
            pa.field("keyframe_interval", pa.int32()),
            pa.field("drift_agreement", pa.float32()),
            pa.field("drift_iou", per_class),
            pa.field("class_confidence", per_class),
            pa.field("mask_uncertain", pa.binary()),
        ]
    )


def complete_columns(table: pa.Table, classes: ClassSet) -> pa.Table:
    """The same rows in the label schema: null in the columns that their file lacks, without those it has besides."""
    columns = [
        table[field.name].combine_chunks() if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in label_schema(classes)
    ]
    return pa.table(columns, schema=label_schema(classes))


def rows_to_table(rows: Sequence[FrameRow], footer: ShardFooter) -> pa.Table:
    """Arrow table of rows in the label schema. Raises StoreError where values per class do not fit the classes."""
    schema = label_schema(footer.classes)
    columns: list[pa.Array] = []
    for field in schema:
        if field.name in ("video", "uri"):
            columns.append(pa.array([getattr(footer, field.name)] * len(rows), pa.string()))
        elif field.name == "pixels":
            columns.append(_pixels_column(rows, footer.classes, field.type))
        elif field.name in PER_CLASS:
            columns.append(_per_class_column(rows, field, len(footer.classes)))
        else:
            columns.append(pa.array([getattr(row, field.name) for row in rows], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def table_to_rows(table: pa.Table) -> list[FrameRow]:
    """The rows of a table in the label schema, which may lack columns that came later."""
    names = [field.name for field in fields(FrameRow) if field.name in table.column_names]
    return [
        FrameRow(**{name: _from_record(record, name) for name in names}) for record in table.select(names).to_pylist()
    ]


def _from_record(record: dict[str, Any], name: str) -> Any:
    """A field of FrameRow from a row as Arrow gives it: structs by class as tuples, in them null as NaN."""
    value = record[name]
    return tuple(math.nan if each is None else each for each in value.values()) if isinstance(value, dict) else value


def open_label_writer(sink: BinaryIO, classes: ClassSet) -> pq.ParquetWriter:
    """Parquet writer with the layout that FORMAT.md promises; one `write_table` is one row group.

    Masks are compressed already and have no statistics; the other columns have both.
    """
    schema = label_schema(classes)
    structs = ("pixels", *PER_CLASS)
    leaves = [f"{struct}.{name}" for struct in structs for name in classes.identifiers]
    leaves += [field.name for field in schema if field.name not in (*structs, *ENCODED_MASKS)]
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression={**dict.fromkeys(leaves, "zstd"), **dict.fromkeys(ENCODED_MASKS, "none")},
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


def _per_class_column(rows: Sequence[FrameRow], field: pa.Field, num_classes: int) -> pa.Array:
    """A struct of float32 by class, null where NaN, and null as a whole where a row has none."""
    values = np.full((len(rows), num_classes), np.nan, np.float32)
    given = [getattr(row, field.name) for row in rows]
    for i, (row, found) in enumerate(zip(rows, given)):
        if found is not None:
            if len(found) != num_classes:
                raise StoreError(
                    f"frame {row.frame_index}: {len(found)} values of {field.name} for {num_classes} classes"
                )
            values[i] = found
    columns = [pa.array(column, mask=np.isnan(column)) for column in values.T]
    return pa.StructArray.from_arrays(columns, fields=list(field.type), mask=pa.array([each is None for each in given]))
