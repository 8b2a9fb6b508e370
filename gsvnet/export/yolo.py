"""YOLO's segmentation format: polygons as text. Lossy, and it says by how much."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from gsvnet.export.config import ExportConfig
from gsvnet.export.format import WITH_IMAGES, ExportedFrame, Fact, Record, Written, write_each
from gsvnet.export.polygons import MIN_PIXELS, fill_polygons, trace_polygons
from gsvnet.export.runs import find_runs
from gsvnet.export.target import Target
from gsvnet.store.read import Labels

_INTO_PIXEL = 0.25  # a coordinate that is rounded and one that is cut off both give the same pixel


class YoloFormat:
    """labels/<stem>.txt with a line per polygon, class ids from 0, and data.yaml."""

    image_folder = "images"
    packages: tuple[str, ...] = ("cv2",)

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._classes, self._has_images = labels.classes, config.image_kind != "none"

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write a text file for each frame; its record: [class, pixels in both, pixels in either]."""

        def write_frame(frame: ExportedFrame) -> Record:
            lines, counts = [], []
            for label in find_runs(frame.labels.ravel()).present(len(self._classes)):
                mask = (frame.labels == label).view(np.uint8)
                polygons = trace_polygons(mask)
                lines += [format_polygon(label, polygon, mask.shape) for polygon in polygons]
                filled = fill_polygons(polygons, mask.shape)
                both = int(np.count_nonzero(mask & filled))
                either = int(np.count_nonzero(mask) + np.count_nonzero(filled)) - both
                counts.append([label, both, either])
            target.write(f"labels/{frame.stem}.txt", "".join(lines))
            return {"counts": counts}

        return write_each(frames, write_frame)

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write data.yaml, with what the polygons lose."""
        totals = np.zeros((len(self._classes), 2), np.int64)
        for record in records():
            for label, both, either in record["counts"]:
                totals[label] += both, either
        seen = totals[:, 1] > 0
        share = 100 * float((totals[seen, 0] / totals[seen, 1]).mean()) if seen.any() else 100.0
        loss = (
            f"mean IoU of the polygons with the labels {share:.2f} % over these frames; holes are joined by bridges, "
            f"specks and holes under {MIN_PIXELS} pixels are gone"
        )
        names = [f"  {label}: {json.dumps(name, ensure_ascii=False)}" for label, name in enumerate(self._classes.names)]
        lines = [f"# lossy: {loss}", "train: images", "val: images", "names:", *names, ""]
        target.write("data.yaml", "\n".join(lines))
        images = "images/; data.yaml names them for both train and val: split them as you like"
        missing = f"none written; YOLO cannot train without: export with {WITH_IMAGES}"
        return [("lossy", loss), ("images", images if self._has_images else missing)]


def format_polygon(label: int, polygon: np.ndarray, size: Sequence[int]) -> str:
    """A line of YOLO's text: class, then x and y of each point as shares of width and height."""
    points = (polygon + _INTO_PIXEL) / (size[1], size[0])
    return f"{label} " + " ".join(f"{value:.6f}" for value in points.ravel().tolist()) + "\n"
