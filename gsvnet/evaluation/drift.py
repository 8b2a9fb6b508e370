"""Does drift tell the true loss? Chunk by chunk, what can be measured without truth beside what only truth shows.

Drift compares labels that came to the keyframe after a chunk with that keyframe's own, on the propagation grid, as
labeling does; with references on both sides it compares labels from before with those from behind. Truth says how much
worse the chunk's frames are labeled than they would be as keyframes. Both orders of the chunks are compared: a rank
correlation of 1 means that whoever looks at the chunks of most drift first sees the worst ones first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.nn.agreement import Comparison


@dataclass(frozen=True, kw_only=True)
class ChunkDrift:
    """One chunk of L frames. Confusion matrices are with the truth; by position 1..L-1 in the chunk.

    drift: of labels that meet, in the network's classes. same_frame: the labels of the farthest frame beside those that
    it has as a keyframe, at full size: what drift stands in for. as_keyframes, labeled: of each frame's labels as a
    keyframe, and in the chunk. farthest: index into both of the frame that is farthest from a keyframe.
    """

    clip: str
    first_frame: int
    drift: Comparison
    same_frame: Comparison
    as_keyframes: tuple[ConfusionMatrix, ...]
    labeled: tuple[ConfusionMatrix, ...]
    farthest: int

    def signs(self) -> dict[str, float]:
        """What is known without truth, in percent: places and classes that differ where labels meet; and, as a ceiling
        of both, the same of the farthest frame itself, if it were a keyframe too.
        """
        return {
            "places": 100 * (1 - self.drift.agreement),
            "classes": 100 * (1 - float(np.nanmean(self.drift.iou))),
            "places_of_same_frame": 100 * (1 - self.same_frame.agreement),
            "classes_of_same_frame": 100 * (1 - float(np.nanmean(self.same_frame.iou))),
        }

    def losses(self) -> dict[str, float]:
        """What truth says, in percent: error of the farthest frame, and what it lost against itself as a keyframe, by
        places and by classes (of that frame); the same loss as the mean of all frames that are no keyframes.
        """
        own, labeled = self.as_keyframes[self.farthest], self.labeled[self.farthest]
        both = list(zip(self.as_keyframes, self.labeled))
        return {
            "error_of_places": 100 * (1 - accuracy(labeled)),
            "error_of_classes": 100 * (1 - labeled.miou()),
            "loss_of_places": 100 * (accuracy(own) - accuracy(labeled)),
            "loss_of_classes": 100 * (own.miou() - labeled.miou()),
            "mean_loss_of_places": 100 * float(np.mean([accuracy(a) - accuracy(b) for a, b in both])),
            "mean_loss_of_classes": 100 * float(np.mean([a.miou() - b.miou() for a, b in both])),
        }


def accuracy(matrix: ConfusionMatrix) -> float:
    """Share in 0..1 of the true pixels that have their class."""
    return float(np.trace(matrix.counts) / matrix.counts.sum())


@dataclass(frozen=True, kw_only=True)
class DriftResult:
    """Drift and true loss of chunks at every start of every clip, in the order of clips and starts.

    references: "before", or "both" sides of a frame.
    """

    dataset: str
    split: str
    keyframe_interval: int
    references: Literal["before", "both"]
    chunks: tuple[ChunkDrift, ...]
    notes: tuple[str, ...] = ()

    def columns(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Signs and losses of all chunks by name, (N,) float64 each, in percent."""
        return _columns([c.signs() for c in self.chunks]), _columns([c.losses() for c in self.chunks])

    def correlations(self, chunks: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """Rank correlation of every sign with every loss, over all chunks or those of the numbers given."""
        signs, losses = self.columns()
        rows = slice(None) if chunks is None else list(chunks)
        return {a: {b: correlate_ranks(x[rows], y[rows]) for b, y in losses.items()} for a, x in signs.items()}

    def correlations_apart(self) -> dict[str, dict[str, float]]:
        """The same over chunks that do not overlap, as a job cuts them: the mean over the L ways to cut the clips."""
        ways = []
        for phase in range(self.keyframe_interval):
            numbers = [n for n, c in enumerate(self.chunks) if c.first_frame % self.keyframe_interval == phase]
            if len(numbers) > 2:
                ways.append(self.correlations(numbers))
        if not ways:
            return {}
        return {a: {b: float(np.mean([way[a][b] for way in ways])) for b in row} for a, row in ways[0].items()}

    def to_dict(self) -> dict:
        """JSON-ready; signs and losses in percent by chunk, correlations in -1..1, None where they are not defined."""
        signs, losses = self.columns()
        return {
            "dataset": self.dataset,
            "split": self.split,
            "keyframe_interval": self.keyframe_interval,
            "references": self.references,
            "num_chunks": len(self.chunks),
            "rank_correlation": _finite(self.correlations()),
            "rank_correlation_apart": _finite(self.correlations_apart()),
            "chunks": {
                "clip": [chunk.clip for chunk in self.chunks],
                "first_frame": [chunk.first_frame for chunk in self.chunks],
                **{f"drift_{name}": values.round(4).tolist() for name, values in signs.items()},
                **{name: values.round(4).tolist() for name, values in losses.items()},
            },
            "notes": list(self.notes),
        }


def correlate_ranks(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation in -1..1 of two (N,) arrays, equal values at their mean rank; NaN without order.

    >>> correlate_ranks(np.array([1, 2, 3]), np.array([0.1, 0.5, 0.2]))
    0.5
    """
    first, second = _ranks(x), _ranks(y)
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / spread) if spread > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    return (times.cumsum() - (times - 1) / 2)[place]


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _finite(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Rounded to 0.001, None for NaN, which JSON does not know."""
    return {a: {b: None if math.isnan(r) else round(r, 3) for b, r in row.items()} for a, row in table.items()}
