"""Clips labeled as a job labels them, at several keyframe intervals: what is right, and what it costs.

The protocol elsewhere asks how good a frame is at each distance from the keyframe. Here each frame counts once, with
the labels that a job would write: chunks follow each other from the first frame on, and a network that chooses its
intervals does so. So networks that choose can be compared with intervals that are the same everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.chunks import STRETCH_FRAMES, Chunk, chunk_starts
from gsvnet.errors import ConfigError
from gsvnet.evaluation.clip import ClipLabeler, find_relabeling, places_of
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.dataset import ScoredClips
from gsvnet.models.segmenter import LogitsBatch, VideoSegmenter
from gsvnet.models.transfer import with_min_agreement

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A keyframe interval, or the least agreement by which a network chooses it; exactly one of them."""

    interval: int | None = None
    min_agreement: float | None = None

    def __str__(self) -> str:
        return f"L={self.interval}" if self.interval else f"agreement {self.min_agreement:g}"

    @property
    def chunk_frames(self) -> int:
        """Most frames of a chunk."""
        return self.interval or STRETCH_FRAMES


@dataclass(kw_only=True)
class AsLabeled:
    """What came of one setting, over all frames. matrix: with the truth of all frames that have one.

    interval_sum: over frames, of the interval where each is. macs: multiply-accumulates of all convolutions that ran,
    so those of keyframes that were tried and not used are among them. seconds: in the network; CPU time on a CPU.
    """

    setting: Setting
    matrix: ConfusionMatrix
    num_frames: int = 0
    num_keyframes: int = 0
    interval_sum: int = 0
    macs: int = 0
    seconds: float = 0.0

    @property
    def miou(self) -> float:
        """In percent."""
        return 100 * self.matrix.miou()

    @property
    def keyframe_share(self) -> float:
        """Frames that are keyframes, 0..1."""
        return self.num_keyframes / self.num_frames

    @property
    def mean_interval(self) -> float:
        """Frames per keyframe that the network meant to have, as the mean over frames."""
        return self.interval_sum / self.num_frames

    @property
    def macs_per_frame(self) -> float:
        """Multiply-accumulates."""
        return self.macs / self.num_frames


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All settings on the same clips. The first one is interval 1, which the times of all are compared with."""

    dataset: str
    split: str
    rows: tuple[AsLabeled, ...]
    notes: tuple[str, ...] = ()

    def relative_time(self, row: AsLabeled) -> float:
        """Seconds over those of interval 1."""
        return row.seconds / self.rows[0].seconds

    def gain_at_equal_macs(self, row: AsLabeled) -> float | None:
        """mIoU in points over that of a fixed interval with as many MACs, between the two nearest ones.

        None for fixed intervals themselves, and beyond them.
        """
        found = _interpolate(row.macs_per_frame, [(fixed.macs_per_frame, fixed.miou) for fixed in self._fixed(row)])
        return None if found is None else row.miou - found

    def gain_at_equal_time(self, row: AsLabeled) -> float | None:
        """mIoU in points over that of a fixed interval that takes as long; None as above."""
        found = _interpolate(row.seconds, [(fixed.seconds, fixed.miou) for fixed in self._fixed(row)])
        return None if found is None else row.miou - found

    def speedup_at_equal_miou(self, row: AsLabeled) -> float | None:
        """How many times as fast as a fixed interval of the same mIoU, between the two nearest ones; None as above."""
        found = _interpolate(row.miou, [(fixed.miou, fixed.seconds) for fixed in self._fixed(row)])
        return None if found is None else found / row.seconds

    def _fixed(self, row: AsLabeled) -> list[AsLabeled]:
        """What the row is compared with; nothing where it is of a fixed interval itself."""
        return [] if row.setting.interval else [other for other in self.rows if other.setting.interval]

    def to_dict(self) -> dict:
        """JSON-ready; mIoU in percent, MACs as numbers (not in billions), time over that of interval 1."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "num_frames": self.rows[0].num_frames,
            "as_labeled": [
                {
                    "keyframe_interval": row.setting.interval,
                    "min_agreement": row.setting.min_agreement,
                    "miou": round(row.miou, 3),
                    "mean_interval": round(row.mean_interval, 3),
                    "keyframe_share": round(row.keyframe_share, 4),
                    "macs_per_frame": round(row.macs_per_frame),
                    "relative_time": round(self.relative_time(row), 4),
                    "gain_at_equal_macs": _rounded(self.gain_at_equal_macs(row)),
                    "gain_at_equal_time": _rounded(self.gain_at_equal_time(row)),
                    "speedup_at_equal_miou": _rounded(self.speedup_at_equal_miou(row)),
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


def compare_as_labeled(
    segmenter: VideoSegmenter,
    data: ScoredClips,
    settings: Sequence[Setting],
    *,
    batch_chunks: int = 4,
    device: str = "cpu",
    bf16: bool = False,
    progress: Progress | None = None,
) -> Compared:
    """Every setting on every clip, in turns, so that a change of the machine's pace meets all of them.

    segmenter: on `device` in evaluation mode. batch_chunks: stretches of 24 frames at a time, cut into chunks. Interval
    1 is added where it is not asked for. progress: called with clips done, of all settings, and in all. Raises
    ConfigError for settings that are no interval and no share, ModelError for networks that cannot choose.
    """
    first = Setting(interval=1)
    rows = [
        AsLabeled(setting=setting, matrix=ConfusionMatrix(len(data.classes)))
        for setting in (first, *(s for s in settings if s != first))
    ]
    models = [_choose(segmenter, row.setting) for row in rows]
    relabel = find_relabeling(segmenter.classes, data.classes)
    for number, clip in enumerate(data.clips):
        for place, (row, model) in enumerate(zip(rows, models)):
            frames = row.setting.chunk_frames
            labeler = ClipLabeler(
                clip,
                model,
                interval=frames,
                relabel=relabel,
                device=device,
                bf16=bf16,
                kept_frames=(batch_chunks + 1) * STRETCH_FRAMES,
            )
            _label(labeler, row, batch_chunks * max(1, STRETCH_FRAMES // frames))
            if progress:
                progress(number * len(rows) + place + 1, len(rows) * len(data.clips))
    return Compared(dataset=data.dataset, split=data.split, rows=tuple(rows), notes=data.notes)


def _choose(segmenter: VideoSegmenter, setting: Setting) -> VideoSegmenter:
    if setting.min_agreement is not None:
        return with_min_agreement(segmenter, setting.min_agreement)
    if setting.interval is None or setting.interval < 1:
        raise ConfigError(f"keyframe interval {setting.interval}: at least 1")
    return segmenter


def _label(labeler: ClipLabeler, row: AsLabeled, batch_chunks: int) -> None:
    """Label a whole clip and count what came of it."""
    clip, frames = labeler.clip, row.setting.chunk_frames
    starts = chunk_starts(0, len(clip.frames), frames)
    chunks = [Chunk(first_frame=s, num_frames=min(frames, len(clip.frames) - s)) for s in starts]
    for begin in range(0, len(chunks), batch_chunks):
        batch = chunks[begin : begin + batch_chunks]
        for first, stop in labeler.cut_batches(batch):
            assembled = labeler.assemble(batch[first:stop])
            with _count_macs(labeler.segmenter, row):
                for output in _time(labeler.run(assembled), row, labeler.device):
                    if output.role == "labels":
                        _count(labeler, batch, first, output, row)


def _count(labeler: ClipLabeler, batch: Sequence[Chunk], first: int, output: LogitsBatch, row: AsLabeled) -> None:
    """The frames in `output`."""
    places = places_of(output, first)
    indices = [batch[chunk].first_frame + position for chunk, position in places]
    begins = [batch[chunk].first_frame for chunk, _ in places]
    keyframes = begins if output.keyframe is None else output.keyframe.tolist()
    row.num_frames += len(indices)
    row.num_keyframes += sum(index == keyframe for index, keyframe in zip(indices, keyframes))
    intervals = [row.setting.chunk_frames] * len(indices) if output.interval is None else output.interval.tolist()
    row.interval_sum += sum(intervals)
    known = [n for n, index in enumerate(indices) if labeler.clip.frames[index].labels is not None]
    for n, labels in zip(known, labeler.enlarge(output, known) if known else ()):
        row.matrix.update(labeler.truth(indices[n]), labels)


def _time(outputs: Iterator, row: AsLabeled, device: str) -> Iterator:
    """The outputs; the time that each took to come is added to the row's seconds."""
    while True:
        start = _now(device)
        output = next(outputs, None)
        row.seconds += _now(device) - start
        if output is None:
            return
        yield output


def _now(device: str) -> float:
    """Seconds; of this process's CPU time where the network runs on a CPU, so that other processes do not count."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


@contextmanager
def _count_macs(model: VideoSegmenter, row: AsLabeled) -> Iterator[None]:
    """While it is open, multiply-accumulates of the model's convolutions are added to the row's."""

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        row.macs += output.numel() * layer.weight[0].numel()

    assert isinstance(model, nn.Module)
    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _interpolate(x: float, points: Sequence[tuple[float, float]]) -> float | None:
    """y at x between the two nearest of points (x, y); None beyond them, and where there are none."""
    if not points:
        return None
    xs, ys = np.array(sorted(points)).T
    return float(np.interp(x, xs, ys)) if xs[0] <= x <= xs[-1] else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
