"""What every export format is: frames into files and records, then whatever binds them together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from gsvnet.errors import MissingExtra
from gsvnet.export.config import ExportConfig
from gsvnet.export.target import Target
from gsvnet.store.read import Labels

Record = dict[str, Any]
"""JSON values that a format remembers of one frame, in the export's journal, for `finish`."""

Fact = tuple[str, str]
"""A line of the summary: a word, and what is to be said about it."""

WITH_IMAGES = "--images jpg (with --overwrite, or into another --to)"
"""How to export again, with images: into the same folder other settings are refused."""


@dataclass(frozen=True, kw_only=True)
class ExportedFrame:
    """One frame to write: labels (H, W) uint8, 255 = ignore; image (H, W, 3) uint8 RGB of the same size, or None.

    image_file: the image's name below the target, also where no image is written. pts: ticks of the video's time base.
    """

    video: str
    frame_index: int
    pts: int
    time_s: float
    keyframe_distance: int | None
    confidence: float | None
    labels: np.ndarray
    image: np.ndarray | None
    image_file: str

    @property
    def stem(self) -> str:
        """File name without suffix, unique in the export."""
        return name_stem(self.video, self.frame_index)


@dataclass(frozen=True, kw_only=True)
class Written:
    """Frames of a video up to `frame_index`, that one included, are written: `num_frames` since the last of these."""

    video: str
    frame_index: int
    num_frames: int = 1
    record: Record = field(default_factory=dict)


class Format(Protocol):
    """One target format for one class set. Files are made through the target, which keeps what `write` yields."""

    image_folder: str
    """Folder below the target for the images."""

    packages: tuple[str, ...]
    """Modules of the extra `export` that it needs."""

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write frames of one video; yields as soon as what it yields need not be written again after a kill."""
        ...

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Write what binds the frames together. records: call it for all records in order, as often as needed."""
        ...


FormatBuilder = Callable[[Labels, ExportConfig], Format]
"""Makes a format for the labels of an output. Raises ConfigError where they do not fit it."""


def name_stem(video: str, frame_index: int) -> str:
    """File name of a frame without suffix: "<video id>-<frame index, 8 digits>"."""
    return f"{video}-{frame_index:08d}"


def write_each(frames: Iterator[ExportedFrame], write_frame: Callable[[ExportedFrame], Record]) -> Iterator[Written]:
    """`Format.write` of a format that is done with a frame once `write_frame` returns its record."""
    for frame in frames:
        record = write_frame(frame)
        yield Written(video=frame.video, frame_index=frame.frame_index, record=record)


def import_extra(name: str) -> ModuleType:
    """A module of the extra `export`. Raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(name.partition(".")[0], "export") from error
