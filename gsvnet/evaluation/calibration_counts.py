"""How sure a network is where it is right and where it is wrong, counted: all that a calibration is measured on.

Pixels are counted by how sure the network is of them, in narrow bins of the log odds of its top-1 probability. Any
calibration's confidence follows from the counts: one pass of the network serves to fit one and to judge several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gsvnet.chunks import Chunk
from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.evaluation.clip import ClipLabeler
from gsvnet.evaluation.dataset import ScoredClips
from gsvnet.evaluation.protocol import walk_clips
from gsvnet.evaluation.scores import start_scores
from gsvnet.models.calibration import keyframe_distances
from gsvnet.models.segmenter import LogitsBatch, VideoSegmenter, frame_index
from gsvnet.nn.confidence import Calibration, calibrate, top_probability
from gsvnet.nn.upsample import upsample_labels

Counts = NDArray[np.int64]

_LOWEST, _HIGHEST, _WIDTH = -6.0, 16.25, 0.25  # of log odds: from 1 in 255 classes to the limit of float32
NUM_BINS = int((_HIGHEST - _LOWEST) / _WIDTH)
LOG_ODDS = torch.arange(NUM_BINS) * _WIDTH + _LOWEST + _WIDTH / 2
"""(NUM_BINS,) float32: the middle of each bin."""


@dataclass(frozen=True, kw_only=True)
class FrameCount:
    """One scored frame at one distance from its keyframe.

    accuracy: share of its pixels with a truth that are labeled rightly. places: (NUM_BINS,), how many places of the
    network's grid are in each bin: rows of a job know no more of a frame.
    """

    distance: int
    accuracy: float
    places: Counts


@dataclass(frozen=True, kw_only=True)
class ConfidenceCounts:
    """Counts over scored frames. pixels, right: by distance, (C, NUM_BINS) of the pixels with a truth by their label,
    and of those that are labeled rightly.
    """

    num_classes: int
    frames: list[FrameCount] = field(default_factory=list)
    pixels: dict[int, Counts] = field(default_factory=dict)
    right: dict[int, Counts] = field(default_factory=dict)

    @property
    def distances(self) -> list[int]:
        """Distances that occur, ascending."""
        return sorted(self.pixels)

    def add(self, distance: int, bins: NDArray, places: NDArray, labels: NDArray, truth: NDArray) -> None:
        """Count a frame. bins: (H, W), of each pixel. places: (h, w), the bins on the grid. A frame without any truth
        is not counted.
        """
        known = truth != IGNORE
        if not known.any():
            return
        shape = (self.num_classes, NUM_BINS)
        keys = labels[known].astype(np.int64) * NUM_BINS + bins[known]
        hit = labels[known] == truth[known]
        pixels, right = (np.bincount(k, minlength=shape[0] * NUM_BINS).reshape(shape) for k in (keys, keys[hit]))
        self.pixels[distance] = self.pixels.get(distance, 0) + pixels
        self.right[distance] = self.right.get(distance, 0) + right
        counted = np.bincount(places.flatten(), minlength=NUM_BINS)
        self.frames.append(FrameCount(distance=distance, accuracy=float(hit.mean()), places=counted))


def confidence_of_bins(calibration: Calibration | None, distance: int) -> NDArray[np.float64]:
    """(NUM_BINS,): what a place in each bin is given at a distance from the keyframe; None: the network's own."""
    own = torch.sigmoid(LOG_ODDS)[None]
    if calibration is not None:
        own = calibrate(own, calibration, torch.tensor([distance]))
    return own[0].double().numpy()


def count_confidence(
    segmenter: VideoSegmenter,
    data: ScoredClips,
    *,
    batch_chunks: int = 4,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> ConfidenceCounts:
    """Run a network, which is on `device` in evaluation mode, over labelled clips and count.

    Every scored frame is counted at every distance that `evaluate` scores it at. progress: called with chunks done and
    in all. Raises ConfigError and ModelError as `evaluate` does, and ConfigError where no pixel has a truth.
    """
    needs = segmenter.needs(*data.clips[0].frames[0].read_image().shape[:2])
    scores = start_scores(segmenter, data, needs, batch_chunks)
    counts = ConfidenceCounts(num_classes=len(data.classes))
    for labeler, batch in walk_clips(
        segmenter, data, scores, device=device, bf16=precision == "bf16", progress=progress
    ):
        _count_batch(counts, labeler, batch)
    if not counts.frames:
        raise ConfigError(f"no pixel of {data.dataset} {data.split} has a truth; a calibration needs some")
    return counts


def _count_batch(counts: ConfidenceCounts, labeler: ClipLabeler, chunks: Sequence[Chunk]) -> None:
    scored = frozenset(labeler.clip.scored)
    for own, output, batch in labeler.outputs(chunks):
        distances = keyframe_distances(output, frame_index(batch), labeler.needs.basis).tolist()
        frames = [own[c].first_frame + p for c, p in zip(output.chunk.tolist(), output.position.tolist())]
        wanted = [row for row, frame in enumerate(frames) if frame in scored]
        for row, maps in zip(wanted, _see_frames(output, wanted, labeler)):
            counts.add(distances[row], *maps, truth=labeler.truth(frames[row]))


def _see_frames(
    output: LogitsBatch, wanted: Sequence[int], labeler: ClipLabeler
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Of each wanted row: bins at full size, bins on the grid, labels at full size."""
    for row in wanted:
        logits = output.logits[row : row + 1]
        labels = upsample_labels(logits, labeler.size, align_corners=output.align_corners)[0].cpu().numpy()
        probability, _ = top_probability(logits, None if output.gain is None else output.gain[row : row + 1])
        places = _bins(probability).view(1, 1, *logits.shape[2:])
        bins = F.interpolate(places.float(), labeler.size, mode="nearest-exact")[0, 0].long()
        yield (
            bins.cpu().numpy(),
            places[0, 0].cpu().numpy(),
            labels if labeler.relabel is None else labeler.relabel[labels],
        )


def _bins(probability: Tensor) -> Tensor:
    """Number of the bin of each probability, int64."""
    return ((torch.logit(probability, eps=1e-7) - _LOWEST) / _WIDTH).long().clamp(0, NUM_BINS - 1)
