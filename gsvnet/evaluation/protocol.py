"""How well a network labels CamVid, at every distance from the keyframe.

On a clip every scored frame t is labeled L times: its keyframe placed at t, t - 1, ..., t - (L - 1). So all distances
score the same frames, those from L - 1 on, and their mIoUs may be compared. Where frames are a second apart (test),
only distance 0 means something: every frame is its own keyframe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.camvid import is_clip, list_frames
from gsvnet.evaluation.clip import OverlappingChunks
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.models.segmenter import VideoSegmenter

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Confusion matrices of one evaluation. All mIoUs are in percent, over the classes that occur.

    distances: one matrix per distance from the keyframe, 0..L-1, all over the same num_frames frames. held: the same
    for the baseline that keeps the keyframe's own labels; None where propagation is not scored. notes: what a reader
    of the numbers must know.
    """

    split: str
    classes: ClassSet
    num_frames: int
    distances: tuple[ConfusionMatrix, ...]
    held: tuple[ConfusionMatrix, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def pooled(self) -> ConfusionMatrix:
        """One matrix over all distances (the published code's "avg. mIoU" is its mIoU)."""
        return reduce(add, self.distances)

    @property
    def per_distance(self) -> list[float | None]:
        """mIoU at distance 0..L-1."""
        return [_percent(matrix.miou()) for matrix in self.distances]

    @property
    def avg_miou(self) -> float | None:
        """Mean of the mIoUs at all distances."""
        return _percent(float(np.mean([matrix.miou() for matrix in self.distances])))

    @property
    def min_miou(self) -> float | None:
        """mIoU at the farthest distance."""
        return self.per_distance[-1]

    def to_dict(self) -> dict:
        """JSON-ready, in percent; null for a class that occurs neither in truth nor in labels.

        per_class: of the matrix pooled over distances. per_frame: the network run on every scored frame, which is
        distance 0. hold: only where propagation is scored.
        """
        pooled = self.pooled
        result = {
            "dataset": "camvid",
            "split": self.split,
            "num_frames": self.num_frames,
            "keyframe_interval": len(self.distances),
            "avg_miou": self.avg_miou,
            "avg_miou_pooled": _percent(pooled.miou()),
            "min_miou": self.min_miou,
            "per_distance": self.per_distance,
            "per_frame": self.per_distance[0],
            "per_class": {name: _percent(iou) for name, iou in zip(self.classes.identifiers, pooled.iou().tolist())},
            "absent_classes": [self.classes.identifiers[i] for i in pooled.absent()],
            "notes": list(self.notes),
        }
        if self.held is not None:
            result["hold"] = {"per_distance": [_percent(matrix.miou()) for matrix in self.held]}
        return result


@torch.inference_mode()
def evaluate_camvid(
    segmenter: VideoSegmenter,
    root: str | Path,
    *,
    split: str = "test",
    keyframe_interval: int = 5,
    batch_chunks: int = 4,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score a network, which is on `device` in evaluation mode, on a split of CamVid in the folder `root`.

    keyframe_interval: L, scored on the val clip; elsewhere only distance 0 is, and the result's notes say so.
    batch_chunks: chunks at a time. progress: called with chunks done and in all. Memory does not grow with the split.
    Raises ConfigError for bad arguments or files, ModelError for a network that does not fit.
    """
    if keyframe_interval < 1 or batch_chunks < 1:
        raise ConfigError(f"keyframe interval {keyframe_interval} and batch of {batch_chunks} chunks must be >= 1")
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision {precision!r}; allowed: fp32, bf16")
    if segmenter.classes.identifiers != CAMVID.identifiers:
        raise ModelError(f"the model's classes are {segmenter.classes.identifiers}; CamVid has {CAMVID.identifiers}")
    frames = list_frames(root, split)
    interval, notes = keyframe_interval, tuple[str, ...]()
    if keyframe_interval > 1 and not is_clip(frames):
        interval = 1
        notes = (f"{split}: frames are too far apart to propagate; only distance 0 is scored (propagation: val only)",)
    if interval > len(frames):
        raise ConfigError(f"keyframe interval {interval} is more than the {len(frames)} frames of {split}")

    clip = OverlappingChunks(frames, segmenter, interval=interval, batch_chunks=batch_chunks)
    distances = tuple(ConfusionMatrix(len(CAMVID)) for _ in range(interval))
    held = tuple(ConfusionMatrix(len(CAMVID)) for _ in range(interval))
    for start in range(0, len(frames), batch_chunks):
        labels = clip.segment(start, device=device, bf16=precision == "bf16")
        _score_batch(clip, start, labels, distances, held)
        if progress:
            progress(min(start + batch_chunks, len(frames)), len(frames))
    return EvaluationResult(
        split=split,
        classes=CAMVID,
        num_frames=len(frames) - interval + 1,
        distances=distances,
        held=held if is_clip(frames) else None,
        notes=notes,
    )


def _score_batch(
    clip: OverlappingChunks,
    start: int,
    labels: dict[tuple[int, int], np.ndarray],
    distances: tuple[ConfusionMatrix, ...],
    held: tuple[ConfusionMatrix, ...],
) -> None:
    """Count a batch's labels, by (chunk, position), of the frames that every distance reaches."""
    for (chunk, distance), frame_labels in labels.items():
        frame = start + chunk + distance
        if frame >= clip.interval - 1:
            truth = clip.truth(frame)
            distances[distance].update(truth, frame_labels)
            held[distance].update(truth, labels[chunk, 0])


def _percent(share: float) -> float | None:
    """Share in 0..1 as percent, to 0.001; None for NaN, which JSON does not know."""
    return None if math.isnan(share) else round(100 * share, 3)
