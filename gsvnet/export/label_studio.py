"""Label Studio: tasks with brush masks as predictions, and the labeling configuration that goes with them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from gsvnet.export.brush import encode_brush
from gsvnet.export.coco import write_list
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import WITH_IMAGES, ExportedFrame, Fact, Record, Written, write_each
from gsvnet.export.runs import find_runs
from gsvnet.export.target import Target
from gsvnet.store.read import Labels

_LOCAL_FILES = "/data/local-files/?d=images/"
_SERVE, _ROOT = "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED", "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
_FILE_BYTES = 100 * 2**20  # of brush masks in JSON: Label Studio takes uploads of up to 250 MB


class LabelStudioFormat:
    """tasks-001.json and so on, and labeling_config.xml."""

    image_folder = "images"
    packages: tuple[str, ...] = ()

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._classes, self._has_images = labels.classes, config.image_kind != "none"
        self._prefix = config.image_prefix
        self._model = labels.job.model_hash[:12]

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """All is in the records until `finish`."""
        return write_each(frames, self._encode)

    def _encode(self, frame: ExportedFrame) -> Record:
        runs = find_runs(frame.labels.ravel())
        masks = [
            [label, base64.b64encode(encode_brush(runs.lengths(label))).decode()]
            for label in runs.present(len(self._classes))
        ]
        height, width = frame.labels.shape
        return {
            "image": frame.image_file.rpartition("/")[2],
            "video": frame.video,
            "frame_index": frame.frame_index,
            "time_s": frame.time_s,
            "confidence": frame.confidence,
            "size": [height, width],
            "masks": masks,
        }

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write the configuration and the tasks, in files that Label Studio accepts as an upload."""
        target.write("labeling_config.xml", self._draw_config())
        left, number = iter(records()), 0
        for first in left:
            number += 1
            with target.create(f"tasks-{number:03d}.json") as file:
                write_list(file, b"", map(self._make_task, _take_bytes(chain([first], left))))
                file.write(b"\n")
        facts = [
            ("labels", f"{number} file(s) of tasks, with labeling_config.xml for the project's labeling interface")
        ]
        if self._prefix is not None:
            return [*facts, ("images", f"expected at {self._prefix}<file name>")]
        written = "images/" if self._has_images else f"none written, export with {WITH_IMAGES}"
        root = target.folder.resolve()
        source = f"Local files, path {root / self.image_folder}, not synced: the tasks are in the files"
        return [
            *facts,
            ("images", f"{written}; Label Studio shows them in a project when both are done:"),
            ("", f"- it is started with {_SERVE}=true {_ROOT}={root}"),
            ("", f"- the project has a source storage: {source}"),
        ]

    def _make_task(self, record: Record) -> Record:
        (height, width), names = record["size"], self._classes.names
        results = [
            {
                "id": f"c{label}",
                "type": "brushlabels",
                "from_name": "labels",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": list(base64.b64decode(rle)), "brushlabels": [names[label]]},
            }
            for label, rle in record["masks"]
        ]
        prefix = _LOCAL_FILES if self._prefix is None else self._prefix
        data = {"image": prefix + quote(record["image"])}
        data |= {name: record[name] for name in ("video", "frame_index", "time_s")}
        prediction = {"model_version": self._model, "score": record["confidence"], "result": results}
        return {"data": data, "predictions": [prediction]}

    def _draw_config(self) -> str:
        lines = [
            f"    <Label value={quoteattr(name)} background={quoteattr(colour)}/>"
            for name, colour in zip(self._classes.names, self._classes.hex_colours)
        ]
        head = ["<View>", '  <Image name="image" value="$image" zoom="true"/>']
        tail = ["  </BrushLabels>", "</View>", ""]
        return "\n".join([*head, '  <BrushLabels name="labels" toName="image">', *lines, *tail])


def _take_bytes(records: Iterator[Record]) -> Iterator[Record]:
    """Records until they hold enough for one file, at least one."""
    taken = 0
    for record in records:
        yield record
        taken += sum(4 * len(rle) for _, rle in record["masks"])  # a byte is up to five characters in JSON
        if taken >= _FILE_BYTES:
            return
