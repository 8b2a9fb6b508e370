"""A folder that `fiftyone.Dataset.from_dir(dataset_type=fiftyone.types.FiftyOneDataset)` loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gsvnet.export.coco import write_list
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import WITH_IMAGES, ExportedFrame, Fact, Record, Written, write_each
from gsvnet.export.png import encode_plain
from gsvnet.export.target import Target
from gsvnet.store.read import Labels

_VERSION = "1.0.0"  # of FiftyOne's own format; newer ones bring it up to date as they read it
_FIELDS = "fiftyone.core.fields."
_MASKS = "fields/labels"  # FiftyOne takes paths in here as relative to the folder


class FiftyOneFormat:
    """metadata.json, samples.json, data/ and fields/labels/<stem>.png.

    A pixel is the class id plus one and 0 what is ignored, as FiftyOne shows 0 as nothing.
    """

    image_folder = "data"
    packages: tuple[str, ...] = ("PIL.Image",)

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._classes, self._has_images = labels.classes, config.image_kind != "none"

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write a mask for each frame; its record is the sample."""

        def write_frame(frame: ExportedFrame) -> Record:
            mask_file = f"{_MASKS}/{frame.stem}.png"
            target.write(mask_file, encode_plain(frame.labels + np.uint8(1)))  # a palette would be taken for colours
            return _describe_sample(frame, mask_file)

        return write_each(frames, write_frame)

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write samples.json and metadata.json."""
        with target.create("samples.json") as file:
            write_list(file, b'{"samples": ', records())
            file.write(b"}\n")
        target.write("metadata.json", json.dumps(self._describe_dataset(), indent=1, ensure_ascii=False) + "\n")
        load = f"fiftyone.Dataset.from_dir({str(target.folder)!r}, dataset_type=fiftyone.types.FiftyOneDataset)"
        missing = f"none written; FiftyOne shows nothing without: export with {WITH_IMAGES}"
        return [
            ("load", load),
            ("masks", "class id + 1, 0 = ignore, as FiftyOne shows 0 as nothing; mask targets are set"),
            ("images", "data/" if self._has_images else missing),
        ]

    def _describe_dataset(self) -> dict[str, Any]:
        targets = {str(label + 1): name for label, name in enumerate(self._classes.names)}
        colours = [{"intTarget": label + 1, "color": colour} for label, colour in enumerate(self._classes.hex_colours)]
        return {
            "name": "gsvnet",
            "version": _VERSION,
            "media_type": "image",
            "tags": [],
            "info": {},
            "app_config": {"color_scheme": {"color_by": "value", "default_mask_targets_colors": colours}},
            "classes": {},
            "default_classes": [],
            "mask_targets": {},
            "default_mask_targets": targets,
            "skeletons": {},
            "sample_fields": _sample_fields(),
            "frame_fields": [],
            "saved_views": [],
            "workspaces": [],
            "annotation_runs": {},
            "brain_methods": {},
            "evaluations": {},
            "runs": {},
        }


def _describe_sample(frame: ExportedFrame, mask_file: str) -> Record:
    digest = hashlib.sha256(frame.stem.encode()).hexdigest()  # ids are the frame's own, so that a rerun gives the same
    height, width = frame.labels.shape
    return {
        "_id": {"$oid": digest[:24]},
        "filepath": frame.image_file,
        "tags": [],
        "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
        "_media_type": "image",
        "_rand": int(digest[24:32], 16) / 2**32,
        "video": frame.video,
        "frame_index": frame.frame_index,
        "time_s": frame.time_s,
        "confidence": frame.confidence,
        "keyframe_distance": frame.keyframe_distance,
        "labels": {"_id": {"$oid": digest[32:56]}, "_cls": "Segmentation", "tags": [], "mask_path": mask_file},
    }


def _sample_fields() -> list[dict[str, Any]]:
    strings = _field("tags", "ListField", subfield=_FIELDS + "StringField")
    metadata = [
        *(_field(name, "IntField") for name in ("size_bytes", "width", "height", "num_channels")),
        _field("mime_type", "StringField"),
    ]
    labels = [
        _field("id", "ObjectIdField", db_field="_id"),
        strings,
        _field("mask", "ArrayField"),
        _field("mask_path", "StringField"),
    ]
    return [
        _field("id", "ObjectIdField", db_field="_id"),
        _field("filepath", "StringField"),
        strings,
        _embed("metadata", "fiftyone.core.metadata.ImageMetadata", metadata),
        _field("_media_type", "StringField"),
        _field("_rand", "FloatField"),
        _field("_dataset_id", "ObjectIdField"),
        _field("created_at", "DateTimeField"),
        _field("last_modified_at", "DateTimeField"),
        _field("video", "StringField"),
        _field("frame_index", "IntField"),
        _field("time_s", "FloatField"),
        _field("confidence", "FloatField"),
        _field("keyframe_distance", "IntField"),
        _embed("labels", "fiftyone.core.labels.Segmentation", labels),
    ]


def _field(name: str, kind: str, *, db_field: str | None = None, subfield: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": _FIELDS + kind,
        "embedded_doc_type": None,
        "subfield": subfield,
        "fields": [],
        "db_field": db_field or name,
        "description": None,
        "info": None,
        "read_only": name in ("created_at", "last_modified_at"),
    }


def _embed(name: str, document: str, fields: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return _field(name, "EmbeddedDocumentField") | {"embedded_doc_type": document, "fields": list(fields)}
