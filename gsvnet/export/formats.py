"""The formats by name."""

from __future__ import annotations

from gsvnet.export.coco import CocoFormat, PanopticFormat
from gsvnet.export.config import FormatName
from gsvnet.export.cvat import CvatFormat
from gsvnet.export.fiftyone import FiftyOneFormat
from gsvnet.export.format import FormatBuilder
from gsvnet.export.label_studio import LabelStudioFormat
from gsvnet.export.mp4 import Mp4Format
from gsvnet.export.png import PngFormat
from gsvnet.export.yolo import YoloFormat

FORMATS: dict[FormatName, FormatBuilder] = {
    "png": PngFormat,
    "coco": CocoFormat,
    "coco-panoptic": PanopticFormat,
    "cvat": CvatFormat,
    "label-studio": LabelStudioFormat,
    "yolo": YoloFormat,
    "fiftyone": FiftyOneFormat,
    "mp4": Mp4Format,
}
