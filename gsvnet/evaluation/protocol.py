"""How well a network labels video, at every distance from the keyframe.

A scored frame t is labeled L times: its keyframe placed at t, t - 1, ..., t - (L - 1). So all distances score the same
frames and their mIoUs may be compared. On a densely labelled clip the scored frames are those from L - 1 on; where
labels are sparse (Cityscapes) they are the labelled ones, and only what leads to them is labeled. This is the protocol
of GSVNet (ICME 2021): all pairs of a keyframe and a scored frame behind it, propagated step by step. It is AR-Seg's
(CVPR 2023) too. For a network that reads the next keyframe that one is placed L frames behind the first, and only
frames that have it at all distances are scored. A network without keyframes labels each scored frame once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
from gsvnet.evaluation.dataset import ScoredClips, has_both_sides
from gsvnet.evaluation.scores import DistanceScores, TurnScores, start_scores
from gsvnet.models.segmenter import VideoSegmenter

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Confusion matrices of one evaluation. All mIoUs are in percent, over the classes that occur in the truth.

    distances: one matrix per distance from the keyframe, 0..L-1, all over the same num_frames frames; a single one
    where the network has no keyframes. turns: of a network whose sub-networks take turns one matrix for each, over the
    frames at its turn. held: the same as distances for the baseline that keeps the keyframe's own labels; None where
    propagation is not scored. step_ms: time from frame to frame where known. motion: where the network's motion came
    from, if it reads any. notes: what a reader of the numbers must know.
    """

    dataset: str
    split: str
    classes: ClassSet
    num_frames: int
    distances: tuple[ConfusionMatrix, ...]
    turns: tuple[ConfusionMatrix, ...] | None = None
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
        it. per_sub_network: mIoU over the frames at the turn of each, only where they take turns.
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
        if self.turns is not None:
            result["per_sub_network"] = [percent(matrix.miou()) for matrix in self.turns]
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

    batch_chunks: chunks at a time, at least. progress: called with chunks done and in all. Memory does not grow with
    the data. Raises ConfigError for bad arguments or files, ModelError for a network that does not fit.
    """
    _check_run(batch_chunks, precision)
    needs = segmenter.needs(*data.clips[0].frames[0].read_image().shape[:2])
    scores = start_scores(segmenter, data, needs, batch_chunks)
    motion: MotionSource | None = None
    for labeler, batch in walk_clips(
        segmenter, data, scores, device=device, bf16=precision == "bf16", progress=progress
    ):
        motion = labeler.motion_source
        scores.count(labeler, batch)
    return EvaluationResult(
        dataset=data.dataset,
        split=data.split,
        classes=data.classes,
        num_frames=data.num_scored,
        distances=scores.distances,
        turns=scores.turns,
        held=scores.held,
        step_ms=data.step_ms,
        motion=motion,
        notes=(*data.notes, *scores.notes, *_notes(segmenter.classes, data.classes, motion)),
    )


def walk_clips(
    segmenter: VideoSegmenter,
    data: ScoredClips,
    scores: DistanceScores | TurnScores,
    *,
    device: str,
    bf16: bool,
    progress: Progress | None,
) -> Iterator[tuple[ClipLabeler, list[Chunk]]]:
    """The chunks that `scores` plans, batch by batch, each with what labels its clip.

    progress: called with chunks done and in all, after each batch was worked on. Raises ConfigError where the network
    reads keyframes that the data has not, ModelError for a network that does not fit.
    """
    relabel = find_relabeling(segmenter.classes, data.classes)
    if scores.needs.next_keyframe:
        _check_both_sides(data)
    plans = [scores.plan(clip) for clip in data.clips]
    done, total = 0, sum(map(len, plans))
    for number, (clip, chunks) in enumerate(zip(data.clips, plans)):
        labeler = ClipLabeler(
            clip,
            segmenter,
            interval=data.keyframe_interval,
            relabel=relabel,
            device=device,
            bf16=bf16,
            kept_frames=scores.kept_frames,
            first_index=scores.first_index(number),
        )
        for first in range(0, len(chunks), scores.batch_chunks):
            batch = chunks[first : first + scores.batch_chunks]
            yield labeler, batch
            done += len(batch)
            if progress:
                progress(done, total)


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


def percent(share: float) -> float | None:
    """Share in 0..1 as percent, to 0.001; None for NaN, which JSON does not know."""
    return None if math.isnan(share) else round(100 * share, 3)
