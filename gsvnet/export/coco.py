"""COCO's two formats: masks of classes as RLE, and panoptic PNGs. Ids of categories start at 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import WITH_IMAGES, ExportedFrame, Fact, Record, Written, import_extra, write_each
from gsvnet.export.png import encode_plain
from gsvnet.export.runs import find_runs
from gsvnet.export.target import Target
from gsvnet.store.read import Labels


class CocoFormat:
    """instances.json: one RLE annotation per class present in a frame."""

    image_folder = "images"
    packages: tuple[str, ...] = ("cv2", "pycocotools.mask")

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._classes, self._has_images = labels.classes, config.image_kind != "none"

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """All is in the records until `finish`."""
        return write_each(frames, self._encode)

    def _encode(self, frame: ExportedFrame) -> Record:
        return _describe_image(frame) | {"annotations": encode_classes(frame.labels, len(self._classes))}

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write instances.json, going twice through the records."""
        categories = [{"supercategory": "", **category} for category in _categories(self._classes)]
        _write_dataset(target, "instances.json", {"categories": categories}, records, _iterate_annotations(records))
        return [("labels", "instances.json: one annotation per class and frame"), _image_fact(self._has_images)]


class PanopticFormat:
    """panoptic.json and panoptic/<stem>.png whose pixels are ids of segments, R + 256 G + 65536 B; 0 is void.

    There is one segment per class present, as the labels know no objects; hence no class is a "thing".
    """

    image_folder = "images"
    packages: tuple[str, ...] = ("cv2", "pycocotools.mask", "PIL.Image")

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._classes, self._has_images = labels.classes, config.image_kind != "none"

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write a PNG for each frame."""

        def write_frame(frame: ExportedFrame) -> Record:
            target.write(f"panoptic/{frame.stem}.png", _encode_segments(frame.labels))
            segments = [
                {"id": each["category_id"]} | {name: each[name] for name in ("category_id", "area", "bbox", "iscrowd")}
                for each in encode_classes(frame.labels, len(self._classes))
            ]
            return _describe_image(frame) | {"file_name": f"{frame.stem}.png", "segments_info": segments}

        return write_each(frames, write_frame)

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write panoptic.json, going twice through the records."""
        colours = self._classes.colours
        categories = [
            {"supercategory": "", "isthing": 0, "color": list(colour), **category}
            for category, colour in zip(_categories(self._classes), colours)
        ]
        annotations = (
            {"image_id": number, "file_name": record["file_name"], "segments_info": record["segments_info"]}
            for number, record in enumerate(records(), 1)
        )
        _write_dataset(target, "panoptic.json", {"categories": categories}, records, annotations)
        stuff = "panoptic.json, panoptic/*.png: one segment per class and frame, all stuff (isthing 0), void is 0"
        return [("labels", stuff), _image_fact(self._has_images)]


def encode_classes(labels: np.ndarray, num_classes: int) -> list[dict[str, Any]]:
    """COCO annotations, without ids, of the classes present in labels (H, W) uint8.

    segmentation: compressed RLE as `pycocotools.mask.encode` makes it, with text; bbox: x, y, width, height.
    """
    rle = import_extra("pycocotools.mask")
    runs = find_runs(import_extra("cv2").transpose(labels).ravel())  # column by column; numpy's own way takes longest
    annotations = []
    for label in runs.present(num_classes):
        lengths = runs.lengths(label)
        encoded = rle.frPyObjects({"counts": lengths.tolist(), "size": list(labels.shape)}, *labels.shape)
        annotations.append(
            {
                "category_id": label + 1,
                "iscrowd": 0,
                "area": int(lengths[1::2].sum()),
                "bbox": rle.toBbox(encoded).tolist(),
                "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
            }
        )
    return annotations


def _encode_segments(labels: np.ndarray) -> bytes:
    ids = np.zeros((*labels.shape, 3), np.uint8)
    ids[..., 0] = labels + np.uint8(1)  # 255, ignored, becomes 0
    return encode_plain(ids)


def _describe_image(frame: ExportedFrame) -> Record:
    height, width = frame.labels.shape
    image = {
        "file_name": frame.image_file.rpartition("/")[2],
        "height": height,
        "width": width,
        "video": frame.video,
        "frame_index": frame.frame_index,
        "time_s": frame.time_s,
    }
    return {"image": image}


def _iterate_annotations(records: Callable[[], Iterable[Record]]) -> Iterator[Record]:
    number = 0
    for image_id, record in enumerate(records(), 1):
        for annotation in record["annotations"]:
            number += 1
            yield {"id": number, "image_id": image_id, **annotation}


def _categories(classes: ClassSet) -> list[dict[str, Any]]:
    return [{"id": label + 1, "name": name} for label, name in enumerate(classes.names)]


def _write_dataset(
    target: Target,
    name: str,
    head: dict[str, Any],
    records: Callable[[], Iterable[Record]],
    annotations: Iterable[Record],
) -> None:
    images = ({"id": number, **record["image"]} for number, record in enumerate(records(), 1))
    with target.create(name) as file:
        file.write(json.dumps({"info": {"description": "made by gsvnet export"}, "licenses": []} | head)[:-1].encode())
        write_list(file, b', "images": ', images)
        write_list(file, b', "annotations": ', annotations)
        file.write(b"}\n")


def write_list(file: BinaryIO, head: bytes, values: Iterable[Any]) -> None:
    """Write `head` and a JSON list, one value per line and one in memory at a time."""
    file.write(head)
    separator = b"[\n"
    for value in values:
        file.write(separator + json.dumps(value, ensure_ascii=False).encode())
        separator = b",\n"
    file.write(b"[]" if separator == b"[\n" else b"\n]")


def _image_fact(has_images: bool) -> Fact:
    if has_images:
        return "images", "images/, by file_name"
    return "images", f"none written; file_name says what {WITH_IMAGES} would write into images/"
