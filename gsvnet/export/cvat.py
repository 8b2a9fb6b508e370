"""CVAT's "Segmentation mask 1.1": the layout of Pascal VOC, which datumaro reads as voc_segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import WITH_IMAGES, ExportedFrame, Fact, Record, Written, write_each
from gsvnet.export.png import encode_indexed
from gsvnet.export.target import Target
from gsvnet.store.read import Labels

_BACKGROUNDS = ("background", "unlabeled", "ignore", "void")


class CvatFormat:
    """labelmap.txt, ImageSets/Segmentation/default.txt, SegmentationClass/ and SegmentationObject/.

    Masks are palette PNGs, as Pascal VOC's own: a pixel's colour is its class's in labelmap.txt, and its index that
    class's line, 0 the background; so readers of colours and of indices agree. SegmentationObject has one object per
    class; without it CVAT would import the background too.
    """

    image_folder = "JPEGImages"
    packages: tuple[str, ...] = ("PIL.Image",)

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._has_images = config.image_kind != "none"
        self._classes, self._names = labels.classes, [_clean_name(name) for name in labels.classes.names]
        self._colours = choose_colours(labels.classes)
        taken = {name.lower() for name in self._names}
        self._background = next(name for name in (*_BACKGROUNDS, "gsvnet ignore") if name not in taken)
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[1 : len(self._colours) + 1] = self._colours
        self._objects = draw_voc_colours()

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write two masks for each frame."""

        def write_frame(frame: ExportedFrame) -> Record:
            indices = frame.labels + np.uint8(1)  # 255, ignored, becomes 0
            target.write(f"SegmentationClass/{frame.stem}.png", encode_indexed(indices, self._palette))
            target.write(f"SegmentationObject/{frame.stem}.png", encode_indexed(indices, self._objects))
            return {"stem": frame.stem}

        return write_each(frames, write_frame)

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write the label map and the list of frames."""
        lines = [(self._background, (0, 0, 0)), *zip(self._names, self._colours)]
        text = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in lines)
        target.write("labelmap.txt", "# label:color_rgb:parts:actions\n" + text)
        with target.create("ImageSets/Segmentation/default.txt") as file:
            for record in records():
                file.write(f"{record['stem']}\n".encode())
        missing = f"none written; {WITH_IMAGES} writes them to JPEGImages/"
        facts = [
            ("labels", f"zip what is in {target.folder} and upload it as Segmentation mask 1.1; 255 is background"),
            ("images", "JPEGImages/" if self._has_images else missing),
        ]
        changed = _name_changes(self._classes.names, self._names)
        colours = zip(self._classes.names, self._classes.colours, self._colours)
        changed += [f"{name} {old} -> {new}" for name, old, new in colours if old != new]
        if changed:
            facts.append(("changed", "CVAT tells classes by colour and name, so: " + "; ".join(changed)))
        return facts


def choose_colours(classes: ClassSet) -> list[tuple[int, int, int]]:
    """The classes' colours, but for those that are black or another class's: there the nearest free one, by blue."""
    taken = {(0, 0, 0), *classes.colours}
    found: list[tuple[int, int, int]] = []
    for colour in classes.colours:
        if colour in found or colour == (0, 0, 0):
            red, green, blue = colour
            near = sorted(range(256), key=lambda value: (abs(value - blue), value))
            free = ((r, green, b) for r in (red, *range(256)) for b in near)
            colour = next(each for each in free if each not in taken)
            taken.add(colour)
        found.append(colour)
    return found


def draw_voc_colours() -> np.ndarray:
    """Pascal VOC's colours (256, 3) uint8 of object numbers: bits of the number dealt out to red, green and blue."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        colours[:, channel] |= ((numbers >> bit & 1) << place).astype(np.uint8)
    return colours


def _clean_name(name: str) -> str:
    """A class name that a line of labelmap.txt can hold: no ":", no line break, no "#" first."""
    return " ".join(name.replace(":", " ").split()).lstrip("# ") or "class"


def _name_changes(names: Iterable[str], cleaned: Iterable[str]) -> list[str]:
    return [f"{old!r} -> {new!r}" for old, new in zip(names, cleaned) if old != new]
