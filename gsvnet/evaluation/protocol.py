"""How well a network labels video, at every distance from the keyframe.

A scored frame t is labeled L times: its keyframe placed at t, t - 1, ..., t - (L - 1). So all distances score the same
frames and their mIoUs may be compared. On a densely labelled clip the scored frames are those from L - 1 on; where
labels are sparse (Cityscapes) they are the labelled ones, and only what leads to them is labeled. This is the protocol
of GSVNet (ICME 2021): all pairs of a keyframe and a scored frame behind it, propagated step by step. It is AR-Seg's
(CVPR 2023) too. For a network that reads the next keyframe that one is placed L frames behind the first, and only
frames that have it at all distances are scored.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal

import numpy as np

from gsvnet.choices import MotionSource
from gsvnet.chunks import Chunk
from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError
from gsvnet.evaluation.clip import ClipLabeler, find_relabeling
from gsvnet.evaluation.clip_motion import MOTION_NOTES
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.dataset import Clip, ScoredClips, has_both_sides
from gsvnet.models.segmenter import VideoSegmenter

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Confusion matrices of one evaluation. All mIoUs are in percent, over the classes that occur in the truth.

    distances: one matrix per distance from the keyframe, 0..L-1, all over the same num_frames frames. held: the same
    for the baseline that keeps the keyframe's own labels; None where propagation is not scored. step_ms: time from
    frame to frame where known. motion: where the network's motion came from, if it reads any. notes: what a reader of
    the numbers must know.
    """

    dataset: str
    split: str
    classes: ClassSet
    num_frames: int
    distances: tuple[ConfusionMatrix, ...]
    held: tuple[ConfusionMatrix, ...] | None = None
    step_ms: float | None = None
    motion: MotionSource | None = None
    notes: tuple[str, ...] = ()

    @property
    def pooled(self) -> ConfusionMatrix:
        """One matrix over all distances (the published code's "avg. mIoU" is its mIoU)."""
        return reduce(add, self.distances)

    @property
    def per_distance(self) -> list[float | None]:
        """mIoU at distance 0..L-1."""
        return [percent(matrix.miou()) for matrix in self.distances]

    @property
    def avg_miou(self) -> float | None:
        """Mean of the mIoUs at all distances."""
        return percent(self._mean())

    @property
    def min_miou(self) -> float | None:
        """mIoU at the farthest distance."""
        return self.per_distance[-1]

    @property
    def drop(self) -> float | None:
        """Points lost by propagation: mIoU with every scored frame a keyframe, minus `avg_miou`."""
        return percent(self.distances[0].miou() - self._mean())

    def _mean(self) -> float:
        return float(np.mean([matrix.miou() for matrix in self.distances]))

    def to_dict(self) -> dict:
        """JSON-ready, in percent; null for a class that does not occur in the truth.

        per_class: of the matrix pooled over distances. labeled_but_absent: classes given to pixels though no scored
        frame has them; they have no IoU, their pixels miss their true classes. per_frame: the network run on every
        scored frame, which is distance 0. hold: only where propagation is scored. motion: only where the network reads
        it.
        """
        pooled = self.pooled
        result = {
            "dataset": self.dataset,
            "split": self.split,
            "num_frames": self.num_frames,
            "keyframe_interval": len(self.distances),
            "step_ms": self.step_ms and round(self.step_ms, 3),
            "avg_miou": self.avg_miou,
            "avg_miou_pooled": percent(pooled.miou()),
            "min_miou": self.min_miou,
            "drop": self.drop,
            "per_distance": self.per_distance,
            "per_frame": self.per_distance[0],
            "per_class": {name: percent(iou) for name, iou in zip(self.classes.identifiers, pooled.iou().tolist())},
            "absent_classes": [self.classes.identifiers[i] for i in pooled.absent()],
            "labeled_but_absent": [self.classes.identifiers[i] for i in pooled.only_labeled()],
            "notes": list(self.notes),
        }
        if self.motion is not None:
            result["motion"] = self.motion
        if self.held is not None:
            result["hold"] = {"per_distance": [percent(matrix.miou()) for matrix in self.held]}
        return result


def evaluate(
    segmenter: VideoSegmenter,
    data: ScoredClips,
    *,
    batch_chunks: int = 4,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score a network, which is on `device` in evaluation mode, on labelled clips.

    batch_chunks: chunks at a time. progress: called with chunks done and in all. Memory does not grow with the data.
    Raises ConfigError for bad arguments or files, ModelError for a network that does not fit.
    """
    _check_run(batch_chunks, precision)
    relabel = find_relabeling(segmenter.classes, data.classes)
    interval = data.keyframe_interval
    distances = tuple(ConfusionMatrix(len(data.classes)) for _ in range(interval))
    held = tuple(ConfusionMatrix(len(data.classes)) for _ in range(interval))
    motion: MotionSource | None = None
    done, total = 0, sum(len(plan_chunks(clip.scored, interval)) for clip in data.clips)
    for clip in data.clips:
        labeler = ClipLabeler(
            clip,
            segmenter,
            interval=interval,
            relabel=relabel,
            device=device,
            bf16=precision == "bf16",
            kept_frames=batch_chunks + interval,
        )
        motion, chunks = labeler.motion_source, plan_chunks(clip.scored, interval)
        if labeler.needs.next_keyframe:
            _check_both_sides(data)
            chunks = chain_chunks(chunks, interval)
        for first in range(0, len(chunks), batch_chunks):
            batch = chunks[first : first + batch_chunks]
            _score_batch(labeler, batch, distances, held)
            done += len(batch)
            if progress:
                progress(done, total)
    return EvaluationResult(
        dataset=data.dataset,
        split=data.split,
        classes=data.classes,
        num_frames=data.num_scored,
        distances=distances,
        held=held if data.is_propagated else None,
        step_ms=data.step_ms,
        motion=motion,
        notes=(*data.notes, *_notes(segmenter.classes, data.classes, motion)),
    )


def _check_run(batch_chunks: int, precision: str) -> None:
    if batch_chunks < 1:
        raise ConfigError(f"batch of {batch_chunks} chunks: at least 1")
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision {precision!r}; allowed: fp32, bf16")


def _notes(classes: ClassSet, wanted: ClassSet, motion: MotionSource | None) -> list[str]:
    """What is to be known of how the network's answers came to be."""
    notes = [] if motion is None else [MOTION_NOTES[motion]]
    if classes.identifiers != wanted.identifiers:
        merged = f"{len(classes)} {classes.name} classes were merged into {len(wanted)} of {wanted.name}"
        notes.append(f"the model's {merged}")
    return notes


def _check_both_sides(data: ScoredClips) -> None:
    if not has_both_sides(data):
        raise ConfigError(
            f"the model reads the keyframe after a frame too, and at keyframe interval {data.keyframe_interval} not "
            f"every scored frame of {data.dataset} {data.split} has one; score only those that do (keep_both_sides)"
        )


def plan_chunks(scored: Sequence[int], interval: int) -> list[Chunk]:
    """Chunks that reach every scored frame (ascending indices) once at every distance 0..interval-1.

    A chunk starts only where a scored frame needs it and ends with the last scored frame in its reach.

    >>> [(chunk.first_frame, chunk.num_frames) for chunk in plan_chunks([7], 3)]
    [(5, 3), (6, 2), (7, 1)]
    """
    starts = sorted({frame - distance for frame in scored for distance in range(interval)})
    return [Chunk(first_frame=s, num_frames=scored[bisect_left(scored, s + interval) - 1] - s + 1) for s in starts]


def chain_chunks(chunks: Sequence[Chunk], interval: int) -> list[Chunk]:
    """The same chunks for networks that read the next keyframe: whole, and each before the one that follows it.

    >>> [(chunk.first_frame, chunk.num_frames) for chunk in chain_chunks(plan_chunks([1, 2, 3], 2), 2)]
    [(0, 2), (2, 2), (1, 2), (3, 2)]
    """
    starts = sorted((chunk.first_frame % interval, chunk.first_frame) for chunk in chunks)
    return [Chunk(first_frame=start, num_frames=interval) for _, start in starts]


def _score_batch(
    labeler: ClipLabeler,
    chunks: Sequence[Chunk],
    distances: Sequence[ConfusionMatrix],
    held: Sequence[ConfusionMatrix],
) -> None:
    """Count the labels of the scored frames of a batch, and those that holding the keyframe's labels would give."""
    scored = list(_scored_places(labeler.clip, chunks))
    keyframes = {(row, 0) for row, _, _ in scored}
    labels = labeler.label(chunks, {(row, distance) for row, distance, _ in scored} | keyframes)
    for row, distance, frame in scored:
        truth = labeler.truth(frame)
        distances[distance].update(truth, labels[row, distance])
        held[distance].update(truth, labels[row, 0])


def _scored_places(clip: Clip, chunks: Sequence[Chunk]) -> Iterator[tuple[int, int, int]]:
    """(chunk, distance, frame index) of the scored frames."""
    scored = frozenset(clip.scored)
    for row, chunk in enumerate(chunks):
        for distance in range(chunk.num_frames):
            if chunk.first_frame + distance in scored:
                yield row, distance, chunk.first_frame + distance


def percent(share: float) -> float | None:
    """Share in 0..1 as percent, to 0.001; None for NaN, which JSON does not know."""
    return None if math.isnan(share) else round(100 * share, 3)
