"""Temporal consistency of a network's labels, beside that of its per-frame labels and of the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.evaluation.clip import find_relabeling, label_frames
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.consistency import ConsistencyResult, Mode, measure_consistency
from gsvnet.evaluation.dataset import Clip, ScoredClips
from gsvnet.evaluation.scores import minds_keyframes
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.video.smoothing import check_reach, smooth_labels


@dataclass(frozen=True, kw_only=True)
class ComparedConsistency:
    """Temporal consistency of three kinds of labels of the same frames.

    model: keyframes every keyframe_interval frames from the first one on, as labeling places them. per_frame: every
    frame a keyframe; the same figures where keyframes make no difference. truth: None unless every frame has true
    labels; those flicker too, and are what can be expected. smoothed: the model's labels smoothed along flow; None
    where nobody asked. mious: in percent, of "model" and "smoothed", over all labelled frames; else empty. clips: their
    names, in the order of each result's clips.
    """

    classes: ClassSet
    clips: tuple[str, ...]
    keyframe_interval: int
    model: ConsistencyResult
    per_frame: ConsistencyResult
    truth: ConsistencyResult | None
    smoothed: ConsistencyResult | None = None
    mious: Mapping[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, ConsistencyResult]:
        """What there is, by name, the model first."""
        rows = {"model": self.model, "smoothed": self.smoothed, "per_frame": self.per_frame, "truth": self.truth}
        return {name: row for name, row in rows.items() if row is not None}

    def to_dict(self) -> dict:
        """JSON-ready, in percent: mode, flow and note of all, and the figures of each."""
        figures = {name: row.to_dict(self.classes.identifiers) for name, row in self.rows.items()}
        shared = {key: figures["model"][key] for key in ("mode", "flow", "note")}
        alone = {name: {k: v for k, v in row.items() if k not in shared} for name, row in figures.items()}
        mious = {"miou": {name: round(miou, 3) for name, miou in self.mious.items()}} if self.mious else {}
        about = {"keyframe_interval": self.keyframe_interval, "clips": list(self.clips)}
        return {**shared, **about, **alone, **mious}


def compare_consistency(
    segmenter: VideoSegmenter,
    data: ScoredClips,
    *,
    interval: int,
    mode: Mode = "sound",
    device: str = "cpu",
    bf16: bool = False,
    batch_chunks: int = 4,
    smooth: int = 0,
) -> ComparedConsistency:
    """Consistency over all frames of all clips, labelled or not. segmenter: on `device`, in evaluation mode.

    smooth: also of labels smoothed over so many frames on either side. Raises ModelError for a network that does not
    fit, ConfigError for files that cannot be read and for a reach that labels cannot be smoothed over.
    """
    check_reach(smooth)
    relabel = find_relabeling(segmenter.classes, data.classes)

    def label(clip: Clip, interval: int) -> Iterator[np.ndarray]:
        return label_frames(
            clip,
            segmenter,
            interval=interval,
            relabel=relabel,
            device=device,
            bf16=bf16,
            batch_chunks=batch_chunks,
        )

    def measure(clip: Clip, labels: Iterable[np.ndarray]) -> ConsistencyResult:
        images = (frame.read_image() for frame in clip.frames)
        return measure_consistency(labels, images, num_classes=len(data.classes), mode=mode)

    def measure_all(labels_of: Callable[[Clip], Iterable[np.ndarray]]) -> ConsistencyResult:
        return reduce(add, [measure(clip, labels_of(clip)) for clip in data.clips])

    needs = segmenter.needs(*data.clips[0].frames[0].read_image().shape[:2])
    placed = interval if interval > 1 and minds_keyframes(segmenter, needs) else 1
    scores: dict[str, ConfusionMatrix] = {}
    smoothed: ConsistencyResult | None = None
    if smooth:
        scores = {name: ConfusionMatrix(len(data.classes)) for name in ("model", "smoothed")}
        rows: list[tuple[ConsistencyResult, ConsistencyResult]] = []
        for clip in data.clips:
            labels = list(_score(clip, label(clip, placed), scores["model"]))
            images = (frame.read_image() for frame in clip.frames)
            after = _score(clip, smooth_labels(zip(labels, images), reach=smooth), scores["smoothed"])
            rows.append((measure(clip, labels), measure(clip, after)))
        model, smoothed = (reduce(add, row) for row in zip(*rows))
    else:
        model = measure_all(partial(label, interval=placed))
    dense = all(frame.labels is not None for clip in data.clips for frame in clip.frames)
    return ComparedConsistency(
        classes=data.classes,
        clips=tuple(clip.name for clip in data.clips),
        keyframe_interval=interval,
        model=model,
        per_frame=model if placed == 1 else measure_all(partial(label, interval=1)),
        truth=measure_all(_read_truths) if dense else None,
        smoothed=smoothed,
        mious={name: 100 * matrix.miou() for name, matrix in scores.items()},
    )


def _score(clip: Clip, labels: Iterable[np.ndarray], matrix: ConfusionMatrix) -> Iterator[np.ndarray]:
    """The labels of all frames, counted where the truth is known."""
    for frame, ids in zip(clip.frames, labels, strict=True):
        if frame.labels is not None:
            matrix.update(frame.read_truth(ids.shape), ids)
        yield ids


def _read_truths(clip: Clip) -> Iterator[np.ndarray]:
    return (frame.read_truth(frame.read_image().shape[:2]) for frame in clip.frames)
