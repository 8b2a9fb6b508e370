"""How far propagated labels agree with what the keyframe network itself says of every frame, by distance.

No true labels are needed, so this can be measured on anybody's footage. It says what propagation costs, not how right
the keyframe network is. Every scored frame t is propagated to from the keyframes t, t - 1, ..., t - (L - 1), so all
distances score the same frames and may be compared.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, VideoError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.footage import Footage, see_frames, working_size
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import with_gain
from gsvnet.nn.blocks import resize
from gsvnet.nn.upsample import upsample_labels

Matrices = tuple[ConfusionMatrix, ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Confusion matrices (row: the keyframe network's own label) by distance 0..L-1, all over the same frames.

    propagated: of the model. held: of the baseline that keeps the keyframe's labels. Two agreements of one interval add
    up to that of all their frames.
    """

    classes: ClassSet
    num_frames: int
    propagated: Matrices
    held: Matrices

    def __add__(self, other: Agreement) -> Agreement:
        assert len(self.propagated) == len(other.propagated), "agreements of one keyframe interval add up"
        return Agreement(
            classes=self.classes,
            num_frames=self.num_frames + other.num_frames,
            propagated=tuple(a + b for a, b in zip(self.propagated, other.propagated)),
            held=tuple(a + b for a, b in zip(self.held, other.held)),
        )

    @property
    def miou(self) -> list[float]:
        """mIoU in percent by distance, over the classes that occur; 100 at distance 0."""
        return [_percent(matrix.miou()) for matrix in self.propagated]

    @property
    def pixels(self) -> list[float]:
        """Share of pixels with the same label, in percent, by distance."""
        return [_percent(_equal_share(matrix)) for matrix in self.propagated]

    @property
    def held_miou(self) -> list[float]:
        """`miou` of the baseline."""
        return [_percent(matrix.miou()) for matrix in self.held]

    @property
    def held_pixels(self) -> list[float]:
        """`pixels` of the baseline."""
        return [_percent(_equal_share(matrix)) for matrix in self.held]


def mean_by_interval(by_distance: list[float]) -> list[float]:
    """The mean over a chunk at keyframe interval 1, 2, ..., from figures at distance 0, 1, ...

    >>> mean_by_interval([100.0, 90.0, 80.0])
    [100.0, 95.0, 90.0]
    """
    return [round(float(np.mean(by_distance[:interval])), 3) for interval in range(1, len(by_distance) + 1)]


def longest_interval(by_distance: list[float], wished: float) -> int:
    """The longest keyframe interval whose mean over distances reaches `wished`; 1, every frame, if no other does.

    >>> longest_interval([100.0, 90.0, 80.0], 95.0)
    2
    """
    reached = [interval for interval, mean in enumerate(mean_by_interval(by_distance), start=1) if mean >= wished]
    return max(reached, default=1)


@torch.inference_mode()
def measure_agreement(
    model: GSVNet,
    footage: Footage,
    *,
    first_frame: int,
    stop_frame: int,
    interval: int,
    device: str = "cpu",
    threads: int = 1,
) -> Agreement:
    """Agreement on the frames [first_frame, stop_frame) at distances 0..interval-1, at the model's working size.

    The first interval - 1 frames are only propagated from. Memory does not grow with the video. Lost frames are stepped
    over, as in labeling. The model is on `device` in evaluation mode. Raises ConfigError for less frames than
    `interval`, VideoError when reading cannot go on or too few frames can be decoded.
    """
    if interval < 1 or stop_frame - first_frame < interval:
        raise ConfigError(f"keyframe interval {interval}; allowed: 1 to the {stop_frame - first_frame} frames measured")
    chunks, size = _OpenChunks(model, interval), working_size(model, footage)
    propagated, held = (tuple(ConfusionMatrix(len(model.classes)) for _ in range(interval)) for _ in range(2))
    num_frames = 0
    seen = see_frames(model, footage, first_frame=first_frame, stop_frame=stop_frame, device=device, threads=threads)
    for batch in seen:
        own = _upsample(batch.logits, size, model.align_corners)
        for frame, logits, truth in zip(batch.frames, batch.logits, own):
            states = chunks.add(frame, logits, truth)
            if len(states) < interval:
                continue
            num_frames += 1
            labels = [truth, *_upsample(states[1:, :-1], size, model.align_corners)]
            for distance in range(interval):
                propagated[distance].update(truth, labels[distance])
                held[distance].update(truth, chunks.labels[distance])
    if not num_frames:
        raise VideoError(f"less than {interval} frames can be decoded", uri=footage.uri, frame=first_frame)
    return Agreement(classes=model.classes, num_frames=num_frames, propagated=propagated, held=held)


class _OpenChunks:
    """The chunks that start at each of the last `interval` frames, all brought to the newest frame.

    They share every frame's flow and crude logits, so a frame costs one flow and one batch of filter steps.
    """

    def __init__(self, model: GSVNet, interval: int) -> None:
        self.model, self.interval = model, interval
        self.labels: deque[np.ndarray] = deque(maxlen=interval)  # the keyframes' own, newest first
        self._states: Tensor | None = None
        self._previous: Tensor | None = None

    def add(self, frame: Tensor, logits: Tensor, labels: np.ndarray) -> Tensor:
        """States (n, C + 1, h, w) of the next frame: the i-th from the keyframe i frames before it; n <= interval.

        frame: (3, h, w) in 0..255. logits (C, h', w') and labels: its own as a keyframe.
        """
        model, current = self.model, self.model.frame_normalise(frame[None])
        fresh = with_gain(resize(logits[None], frame.shape[-2:], align_corners=model.align_corners))
        if self._states is not None and self._previous is not None and self.interval > 1:
            older = self._states[: self.interval - 1]
            flow = model.propagation.estimate_flow(current, self._previous).expand(len(older), -1, -1, -1)
            intra = model.propagation.glance(current)
            intra = None if intra is None else intra.expand(len(older), -1, -1, -1)
            fresh = torch.cat([fresh, model.propagation.step(older, flow, intra)])
        self._states, self._previous = fresh, current
        self.labels.appendleft(labels)
        return fresh


def _upsample(logits: Tensor, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """Labels (N, H, W) uint8 of logits (N, C, h, w); N may be 0."""
    if not len(logits):
        return np.zeros((0, *size), np.uint8)
    return upsample_labels(logits, size, align_corners=align_corners).cpu().numpy()


def _equal_share(matrix: ConfusionMatrix) -> float:
    total = int(matrix.counts.sum())
    return float(np.trace(matrix.counts[:, :-1])) / total if total else math.nan


def _percent(share: float) -> float:
    """Share in 0..1 as percent, to 0.001; 0 where nothing was counted."""
    return 0.0 if math.isnan(share) else round(100 * share, 3)
