"""How fast a network labels: real runs of `segment` on random pixels.

From pixels at the network's own sizes to logits: no decoding, no upsampling of labels, no writing. So these times
compare networks and intervals; how fast a job runs is in its own report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

import torch

from gsvnet.errors import ConfigError
from gsvnet.evaluation.cost import check_positive
from gsvnet.models.noise import draw_chunks
from gsvnet.models.prepared import autocast_to
from gsvnet.models.segmenter import ChunkBatch, VideoSegmenter

PRECISIONS = ("fp32", "bf16")
_FEWEST_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long a network takes, as medians of real runs in seconds per frame.

    keyframe_s: of a keyframe. frame_s: of every other frame; None at interval 1, which has none. frames_per_s: over
    whole chunks. On a CPU these mean little by themselves: the figure is `speedup`. A network that reads the next
    keyframe runs one keyframe more than a batch has chunks, in labeling too, where the next batch runs it again:
    frames_per_s contains it, and batches of more chunks make it count less. So it is with frames around a batch that a
    network looks at; where frames are labeled from their neighbours, all count as keyframes for keyframe_s.
    """

    size: tuple[int, int]
    keyframe_interval: int
    batch_chunks: int
    device: str
    threads: int
    precision: str
    keyframe_s: float
    frame_s: float | None
    frames_per_s: float
    rounds: int

    @property
    def speedup(self) -> float:
        """Frames per second over those of the same network with every frame a keyframe, timed in turns with it."""
        return self.frames_per_s * self.keyframe_s

    def describe(self) -> str:
        """One line for people: the figures, and where and how they were taken."""
        frame = "" if self.frame_s is None else f", other frames {1000 * self.frame_s:.3g} ms"
        height, width = self.size
        return (
            f"{self.frames_per_s:.3g} frames/s at L={self.keyframe_interval}, {self.speedup:.2f} x per-frame labeling "
            f"(keyframe {1000 * self.keyframe_s:.3g} ms{frame}; video {width}x{height}, network alone, "
            f"{self.batch_chunks} chunks at a time, {self.device}, {self.threads} CPU threads, {self.precision}, "
            f"median of {self.rounds} runs)"
        )

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {**asdict(self), "size": list(self.size), "speedup": self.speedup}


@torch.inference_mode()
def measure_speed(
    model: VideoSegmenter,
    *,
    height: int,
    width: int,
    keyframe_interval: int,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_chunks: int = 1,
    seconds: float = 10.0,
) -> Speed:
    """Speed of a network, which is on `device` in evaluation mode, on random pixels of videos of height x width.

    Keyframes alone and whole chunks run in turns for `seconds`, at least three times each after a warm-up, so that
    a change of the machine's pace meets both. batch_chunks: chunks, and so keyframes, at a time; a GPU wants enough
    of them to be busy with keyframes alone, else `speedup` flatters. Raises ConfigError for bad arguments.
    """
    check_positive(height=height, width=width, keyframe_interval=keyframe_interval, batch_chunks=batch_chunks)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    # frames around a batch then weigh on both sides alike
    num_alone = batch_chunks * (keyframe_interval if model.needs(height, width).basis == "neighbours" else 1)
    alone, whole = (
        draw_chunks(model, height=height, width=width, num_chunks=num, interval=interval, device=device)
        for num, interval in ((num_alone, 1), (batch_chunks, keyframe_interval))
    )

    def run(chunks: ChunkBatch) -> None:
        with autocast_to(device, precision):
            for _ in model.segment(chunks):
                pass

    rounds = _time_in_turns(lambda: run(alone), lambda: run(whole), device=device, seconds=seconds)
    others = batch_chunks * (keyframe_interval - 1)
    return Speed(
        size=(height, width),
        keyframe_interval=keyframe_interval,
        batch_chunks=batch_chunks,
        device=_name_device(device),
        threads=torch.get_num_threads(),
        precision=precision,
        keyframe_s=median(first for first, _ in rounds) / len(alone.keyframes),
        frame_s=median(second - first * batch_chunks / num_alone for first, second in rounds) / others
        if others
        else None,
        frames_per_s=batch_chunks * keyframe_interval / median(second for _, second in rounds),
        rounds=len(rounds),
    )


def _time_in_turns(
    first: Callable[[], None], second: Callable[[], None], *, device: str, seconds: float
) -> list[tuple[float, float]]:
    """Seconds of both, round by round, after one round of warm-up."""
    rounds = [(_time(first, device), _time(second, device))]
    start = time.perf_counter()
    while len(rounds) <= _FEWEST_ROUNDS or time.perf_counter() - start < seconds:
        rounds.append((_time(first, device), _time(second, device)))
    return rounds[1:]


def _time(run: Callable[[], None], device: str) -> float:
    """Seconds that `run` takes, to the end of what it queued on the device."""
    _wait_for(device)
    start = time.perf_counter()
    run()
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _name_device(device: str) -> str:
    kind = torch.device(device)
    return f"{device} ({torch.cuda.get_device_name(kind)})" if kind.type == "cuda" else device
