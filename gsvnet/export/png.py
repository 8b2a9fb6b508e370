"""Indexed PNG: a class id per pixel."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from gsvnet.classes import CITYSCAPES, CITYSCAPES_LABEL_IDS, IGNORE, ClassSet
from gsvnet.errors import ConfigError
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame, Fact, Record, Written, import_extra, write_each
from gsvnet.export.target import Target
from gsvnet.store.read import Labels

_LEVEL, _STRATEGY_RLE = 3, 3  # of zlib: of the settings tried the smallest at nearly the highest speed


class PngFormat:
    """masks/<stem>.png with 8-bit ids and the classes' colours as palette, and classes.json."""

    image_folder = "images"
    packages: tuple[str, ...] = ("PIL.Image",)

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._table, self._ids_name = np.arange(256, dtype=np.uint8), config.ids
        self._classes, self._palette = labels.classes, labels.classes.palette
        if config.ids == "cityscapes":
            self._table = _label_ids(labels.classes)
            self._palette = np.zeros((256, 3), np.uint8)
            self._palette[self._table[: len(labels.classes)]] = labels.classes.colours

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write a mask for each frame."""

        def write_frame(frame: ExportedFrame) -> Record:
            ids = frame.labels if self._ids_name == "own" else self._table[frame.labels]
            target.write(f"masks/{frame.stem}.png", encode_indexed(ids, self._palette))
            return {}

        return write_each(frames, write_frame)

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write what the ids mean."""
        classes = describe_classes(self._classes, [int(i) for i in self._table[: len(self._classes)]])
        value = {"ids": self._ids_name, "ignore": int(self._table[IGNORE]), "classes": classes}
        target.write("classes.json", json.dumps(value, indent=1, ensure_ascii=False) + "\n")
        return [("masks", f"masks/*.png: {self._ids_name} ids, {value['ignore']} = ignore; classes.json names them")]


def encode_indexed(ids: np.ndarray, palette: np.ndarray) -> bytes:
    """PNG bytes of ids (H, W) uint8 with a palette (256, 3) uint8."""
    image = import_extra("PIL.Image").fromarray(ids)
    image.putpalette(palette.tobytes())
    return _encode(image)


def encode_plain(values: np.ndarray) -> bytes:
    """PNG bytes of values (H, W) uint8 as grey, or (H, W, 3) uint8 as colours."""
    return _encode(import_extra("PIL.Image").fromarray(values))


def _encode(image: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=_LEVEL, compress_type=_STRATEGY_RLE)
    return data.getvalue()


def describe_classes(classes: ClassSet, ids: list[int]) -> list[dict]:
    """For JSON: id, name, identifier and colour of each class."""
    columns = zip(ids, classes.names, classes.identifiers, classes.colours)
    return [{"id": i, "name": n, "identifier": d, "colour": list(c)} for i, n, d, c in columns]


def _label_ids(classes: ClassSet) -> np.ndarray:
    """Lookup (256,) uint8 from labels to Cityscapes' label ids; 0, "unlabeled", for what is ignored."""
    if classes.names != CITYSCAPES.names:
        raise ConfigError(f"--ids cityscapes: the labels have the classes {classes.name}, not those of Cityscapes")
    table = np.zeros(256, np.uint8)
    table[: len(classes)] = CITYSCAPES_LABEL_IDS
    return table
