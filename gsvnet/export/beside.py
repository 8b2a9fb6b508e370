"""Two outputs of the same videos, frame by frame: what both say about each picture, which is decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gsvnet.errors import ConfigError
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame
from gsvnet.export.frames import stream_frames
from gsvnet.reading.pictures import fit_labels
from gsvnet.store.pairs import match_videos
from gsvnet.store.query import select_frames
from gsvnet.store.read import LabeledFrame, Labels, open_labels
from gsvnet.uris import absolute_uri, redact_uri
from gsvnet.words import interval_in_words

_PROBLEMS = {"decode_error": "lost", "damaged": "damaged"}
_LONGEST_NAME = 32  # characters; its middle is left out before what the job's record tells
_LONGEST_CAPTION = 200  # a job's record may come from anybody
_HASH_DIGITS = 8

Pair = tuple[Labels, Labels]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Two outputs to show side by side, OUT and OUT2.

    videos: OUT's ids -> OUT2's. flawed: of each output, indices of the frames that are lost or damaged, by its ids.
    captions: what each is called. num_alone: videos that only one output has.
    """

    outputs: Pair
    videos: Mapping[str, str]
    flawed: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]
    captions: tuple[str, str]
    num_alone: int

    def names(self, video: str) -> tuple[str, str]:
        """Ids of OUT's `video` in both outputs."""
        return video, self.videos[video]


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one of two outputs says about a frame: labels (H, W) uint8 of the picture's size.

    labels: None where it says nothing; problem: then why, in a word: missing (there is no row), lost or damaged.
    """

    caption: str
    labels: np.ndarray | None
    keyframe_distance: int | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class PairedFrame(ExportedFrame):
    """A frame as the first output that has labels of it tells it, and what both say, OUT on the left."""

    sides: tuple[Side, Side]


def open_beside(labels: Labels, config: ExportConfig) -> Beside:
    """OUT's labels and those of `config.beside`, with their videos matched as `gsvnet diff` does.

    Raises ConfigError where their classes differ, or where no video is in both.
    """
    assert config.beside is not None
    outputs = (labels, open_labels(config.beside, config.storage_options))
    first, second = (each.classes for each in outputs)
    if first.identifiers != second.identifiers:
        shown = " and ".join(f"{each.name} ({', '.join(each.identifiers)})" for each in (first, second))
        raise ConfigError(f"--beside: the outputs have different classes, {shown}; only the same ones are shown so")
    pairs = match_videos(*outputs, config.video)
    of_each = tuple(zip(*pairs))
    flawed = [select_frames(each, where="status <> 'ok'", videos=videos) for each, videos in zip(outputs, of_each)]
    alone = 0 if config.video else sum(len(each.videos) - len(pairs) for each in outputs)
    return Beside(
        outputs=outputs,
        videos=dict(pairs),
        flawed=(flawed[0], flawed[1]),
        captions=name_outputs(outputs),
        num_alone=alone,
    )


def name_outputs(outputs: Pair) -> tuple[str, str]:
    """What tells two outputs apart, in printable letters: as much of their paths as differs, settings, and model."""
    parts = [absolute_uri(each.uri).rstrip("/").split("/") for each in outputs]
    depths = range(1, max(map(len, parts)) + 1)
    depth = next((depth for depth in depths if parts[0][-depth:] != parts[1][-depth:]), 1)
    first, second = (_describe(each, "/".join(path[-depth:])) for each, path in zip(outputs, parts))
    return first, second


def stream_pairs(
    beside: Beside, video: str, indices: np.ndarray, *, config: ExportConfig, image_folder: str
) -> Iterator[PairedFrame]:
    """Frames of OUT's `video` at ascending indices; those that neither output has whole are left out.

    Raises ConfigError where a frame has two pts, and as the streams of `gsvnet.reading` do.
    """
    names = beside.names(video)
    for lead, run in _split_by_lead(beside, names, indices):
        other, order = 1 - lead, -1 if lead else 1
        pictures = stream_frames(beside.outputs[lead], names[lead], run, config=config, image_folder=image_folder)
        others = _stream_rows(beside.outputs[other], names[other], run)
        for frame, their in zip(pictures, others, strict=True):
            if their is not None and their.row.pts != frame.pts:
                raise ConfigError(_explain_times(beside, frame, (frame.pts, their.row.pts)[::order]))
            own = Side(caption=beside.captions[lead], labels=frame.labels, keyframe_distance=frame.keyframe_distance)
            sides = (own, _to_side(their, beside.captions[other], frame.labels.shape))
            yield PairedFrame(**vars(frame) | {"video": video, "sides": sides[::order]})


def _split_by_lead(
    beside: Beside, names: tuple[str, str], indices: np.ndarray
) -> Iterator[tuple[Literal[0, 1], np.ndarray]]:
    """Runs of the frames that an output has whole, and which one their pictures and times are from: OUT if it can be.

    A picture comes with the labels of the one; where the lead changes, reading its video begins anew.
    """
    first, second = (
        np.isin(indices, np.setdiff1d(labels.indices(name), flawed.get(name, ()), assume_unique=True))
        for labels, name, flawed in zip(beside.outputs, names, beside.flawed)
    )
    shown, leads = indices[first | second], first[first | second]
    for run in np.split(np.arange(len(shown)), np.flatnonzero(np.diff(leads)) + 1):
        if len(run):
            yield 0 if leads[run[0]] else 1, shown[run]


def _stream_rows(labels: Labels, video: str, indices: np.ndarray) -> Iterator[LabeledFrame | None]:
    """Each frame at ascending indices, None where the output has no row of it."""
    has_row = np.isin(indices, labels.indices(video))
    frames = labels.stream(video, indices[has_row])
    for there in has_row:
        yield next(frames) if there else None


def _explain_times(beside: Beside, frame: ExportedFrame, pts: tuple[int, ...]) -> str:
    each = " and ".join(f"{ticks} in {redact_uri(labels.uri)}" for ticks, labels in zip(pts, beside.outputs))
    return f"frame {frame.frame_index} of {frame.video} has pts {each}: they were made from different videos"


def _to_side(frame: LabeledFrame | None, caption: str, size: tuple[int, ...]) -> Side:
    if frame is None:
        return Side(caption=caption, labels=None, problem="missing")
    if frame.row.status != "ok":
        return Side(caption=caption, labels=None, problem=_PROBLEMS[frame.row.status])
    labels = fit_labels(frame.labels, size)
    return Side(caption=caption, labels=labels, keyframe_distance=frame.row.keyframe_distance)


def _describe(labels: Labels, name: str) -> str:
    """A line about an output, as far as its job's record tells."""
    fields = labels.job.fields
    settings, interval, reach = fields.get("model_settings"), interval_in_words(fields), fields.get("smooth")
    family = str(settings.get("family", "")) if isinstance(settings, dict) else ""
    parts = (
        _elide(_to_printable(name)),
        f"interval {interval}" if interval not in ("", "none") else "",
        str(fields.get("propagation", "")),
        f"smooth {reach}" if reach else "",
        f"{family} {labels.job.model_hash[:_HASH_DIGITS]}".lstrip(),
    )
    return _to_printable("   ".join(part for part in parts if part)[:_LONGEST_CAPTION])


def _to_printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _elide(name: str) -> str:
    """Both ends of a long name: runs are told apart by either."""
    half = (_LONGEST_NAME - 3) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half].rstrip()}...{name[-half:].lstrip()}"
