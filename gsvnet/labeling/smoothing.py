"""Labels smoothed along flow on their way from the networks to rows: flow and votes run in the pipeline's threads.

A shard's labels take part with those of the chunks around it (`widen_shard`), so that they do not depend on where the
video is cut. Of the frames around the shard no row is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace

import numpy as np
import torch

from gsvnet.chunks import Shard
from gsvnet.errors import ConfigError
from gsvnet.labeling.batching import DecodedBatch, FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.rows import LabeledFrame, RowMaker
from gsvnet.labeling.tasks import ShardTask
from gsvnet.models.segmenter import LogitsBatch
from gsvnet.store.schema import FrameRow
from gsvnet.video.decode import Frame
from gsvnet.video.smoothing import (
    FlowingLabels,
    NeighbourFlow,
    estimate_neighbour_flow,
    neighbourhoods,
    smooth_frame,
    to_grey,
)

ROWS_AHEAD = 8  # rows being made, at least

Submit = Callable[..., Future]
"""A pipeline's: run a function with these arguments in its threads, in the order in which it is told."""


def widened_task(task: ShardTask) -> ShardTask:
    """The task of labeling all that a shard's smoothed labels depend on. Raises ConfigError where none was planned."""
    if task.widened is None:
        raise ConfigError(
            f"shard {task.shard.index} of {task.video.id} was planned without --smooth; plan the video with it"
        )
    return replace(task, shard=task.widened)


class GreyImages:
    """Small grey images for flow, which travel past the batches. The first image of every frame is the one for flow."""

    def __init__(self) -> None:
        self._images: dict[int, np.ndarray] = {}

    def take(self, frames: Iterable[Frame], shard: Shard) -> Iterator[Frame]:
        """The frames without their first image, where `shard` has them and they are not lost."""
        for frame in frames:
            if frame.images and contains(shard, frame.index, frame.pts):
                image = torch.as_tensor(frame.images[0]).cpu().numpy()
                self._images[frame.index] = to_grey(image)
                frame = replace(frame, images=frame.images[1:])
            yield frame

    def give(self, batch: DecodedBatch) -> DecodedBatch:
        """The batch whose places know their images."""
        places = (replace(place, grey=self._images.pop(place.index, None)) for place in batch.places)
        return replace(batch, places=tuple(places))


def contains(shard: Shard, index: int, pts: int) -> bool:
    """Whether a frame is the shard's."""
    return index >= shard.first_frame and (shard.end_pts is None or pts < shard.end_pts)


@dataclass(frozen=True, kw_only=True)
class FrameLabeler:
    """For a pipeline, in place of a RowMaker: what it makes is not encoded yet."""

    maker: RowMaker

    @property
    def clock(self) -> StageClock:
        """The shard's."""
        return self.maker.clock

    def label(self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]) -> list[LabeledFrame]:
        """The frames of `output`."""
        return self.maker.label_frames(output, places)

    def lost(self, place: FramePlace) -> LabeledFrame:
        """A frame without labels."""
        return LabeledFrame(place=place)


def smooth_rows(
    frames: Iterable[LabeledFrame], *, shard: Shard, reach: int, maker: RowMaker, submit: Submit
) -> Iterator[FrameRow]:
    """Rows of the shard's frames in order, smoothed over `reach` frames on either side.

    frames: the shard's, and at least `reach` around it, in order. submit: runs first what it is given first, so that
    no vote waits for flow that waits for a thread.
    """
    waiting: deque[Future[FrameRow]] = deque()
    try:
        for before, own, after in neighbourhoods(_find_flow(frames, maker.clock, submit), reach):
            if contains(shard, own.frame.place.index, own.frame.place.pts):
                waiting.append(submit(_make_row, maker, before, own, after, reach))
            while len(waiting) > ROWS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for row in waiting:
            row.cancel()
        wait(waiting)


@dataclass(frozen=True, kw_only=True)
class _FlowingFrame:
    """A frame, and the flow between the one before and it; None where one of them was lost, or is not there."""

    frame: LabeledFrame
    flow: Future[NeighbourFlow] | None

    def result(self) -> FlowingLabels | None:
        """What votes; None for a lost frame."""
        if self.frame.labels is None:
            return None
        return FlowingLabels(labels=self.frame.labels, flow=None if self.flow is None else self.flow.result())


def _find_flow(frames: Iterable[LabeledFrame], clock: StageClock, submit: Submit) -> Iterator[_FlowingFrame]:
    earlier: np.ndarray | None = None
    for frame in frames:
        grey = frame.place.grey
        is_known = earlier is not None and grey is not None
        yield _FlowingFrame(frame=frame, flow=submit(_estimate, earlier, grey, clock) if is_known else None)
        earlier = grey


def _estimate(earlier: np.ndarray, later: np.ndarray, clock: StageClock) -> NeighbourFlow:
    with clock.stage("smooth"):
        return estimate_neighbour_flow(earlier, later)


def _make_row(
    maker: RowMaker, before: list[_FlowingFrame], own: _FlowingFrame, after: list[_FlowingFrame], reach: int
) -> FrameRow:
    labels = own.result()
    if labels is None:
        return maker.lost(own.frame.place)
    sides = [_until_lost(side, own.frame.place) for side in (before, after)]
    with maker.clock.stage("smooth"):
        smoothed = smooth_frame(sides[0], labels, sides[1], reach=reach)
    return maker.make_row(replace(own.frame, labels=smoothed))


def _until_lost(frames: list[_FlowingFrame], own: FramePlace) -> list[FlowingLabels]:
    """What votes on one side; labels of a damaged picture do not, but for another one."""
    found: list[FlowingLabels] = []
    for frame in frames:
        labels = frame.result()
        if labels is None or (frame.frame.place.damaged and not own.damaged):
            break
        found.append(labels)
    return found
