"""Drift: how far the labels of each chunk agree with those of the keyframe after it. No ground truth is needed.

A network yields where a chunk's labels have come to at that keyframe (role "arrival"); the keyframe's own labels come
with the next chunk, often in another batch. So both go through the pipeline as small label maps beside the rows, and
`join_drift` compares them behind it, where all is in the order of frames. Where a network labels frames from before
and from behind (`LogitsBatch.sides`), these two are compared instead, over all such frames of the chunk.

Maps are compared on the propagation grid: that is as fine as propagated labels are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch

from gsvnet.errors import NotNumbers
from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.pipeline import Maker
from gsvnet.labeling.rows import LabeledFrame, rule_out
from gsvnet.models.segmenter import LogitsBatch
from gsvnet.nn.agreement import Comparison, compare_maps
from gsvnet.nn.best_class import best_class
from gsvnet.nn.blocks import resize
from gsvnet.store.schema import FrameRow

Item = TypeVar("Item", FrameRow, LabeledFrame)


@dataclass(frozen=True, kw_only=True)
class Measured(Generic[Item]):
    """A row, or what becomes one, and what the drift of its chunk is found from.

    own: (h, w) uint8, labels of a keyframe; None of other frames. sides: how far both sides of the frame agree; None
    where it has one.
    """

    item: Item
    own: np.ndarray | None = None
    sides: Comparison | None = None

    @property
    def frame_index(self) -> int:
        """Where in the video it is."""
        return self.item.frame_index


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Labels (h, w) uint8 of a chunk where the keyframe after it is. frame_index: of the keyframe they come from."""

    frame_index: int
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class DriftMaker(Generic[Item]):
    """For a pipeline, around what makes the rows. grid: (height, width) on which labels are compared."""

    maker: Maker[Item]
    grid: tuple[int, int]
    num_classes: int

    @property
    def clock(self) -> StageClock:
        """The shard's."""
        return self.maker.clock

    def label(
        self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]
    ) -> list[Measured[Item] | Arrival]:
        """What becomes of the frames in `output`; places: by (chunk, position)."""
        if output.role == "arrival":
            keys = list(zip(output.chunk.tolist(), output.position.tolist()))
            maps = self._label_grid(output, range(len(keys)))
            return [Arrival(frame_index=places[key].index, labels=labels) for key, labels in zip(keys, maps)]
        items = self.maker.label(output, places)
        keyframes = [n for n, item in enumerate(items) if item.keyframe_distance == 0]
        own = dict(zip(keyframes, self._label_grid(output, keyframes)))
        sides = self._compare_sides(output)
        return [Measured(item=item, own=own.get(n), sides=sides.get(n)) for n, item in enumerate(items)]

    def lost(self, place: FramePlace) -> Measured[Item]:
        """A frame without labels."""
        return Measured(item=self.maker.lost(place))

    def _label_grid(self, output: LogitsBatch, rows: Sequence[int]) -> np.ndarray:
        """(N, h, w) uint8: labels of these frames of `output` on the grid."""
        if not rows:
            return np.empty((0, *self.grid), np.uint8)
        with torch.inference_mode(), self.clock.stage("upsample"):
            logits = output.logits[list(rows)].to(torch.float32, memory_format=torch.contiguous_format)
            logits = resize(rule_out(logits.contiguous()), self.grid, align_corners=output.align_corners)
            if not bool(logits.isfinite().all()):
                raise NotNumbers("the network's output for a keyframe, or on arriving there, holds NaN or infinity")
            return best_class(logits).cpu().numpy()

    def _compare_sides(self, output: LogitsBatch) -> dict[int, Comparison]:
        """By the number of the frame in `output`."""
        if output.sides is None:
            return {}
        with self.clock.stage("upsample"):
            pairs = output.sides.cpu().numpy()
            found = {n: compare_maps(one, other, self.num_classes) for n, (one, other) in enumerate(pairs)}
        return {n: comparison for n, comparison in found.items() if comparison is not None}


def join_drift(
    items: Iterable[Measured[Item] | Arrival], *, num_classes: int, clock: StageClock, end_pts: int | None
) -> Iterator[Item]:
    """The rows with the drift of each chunk on that of its keyframe. No more of them are held than one chunk.

    items: in the order of frames; an arrival before or after its keyframe. end_pts: what comes from there on only
    serves for comparison; None: all are wanted.
    """
    held: list[Measured[Item]] = []  # from a keyframe on, up to the next one
    arrivals: dict[int, Arrival] = {}

    def finish(following: np.ndarray | None) -> Iterator[Item]:
        if held and held[0].own is not None:
            arrival = arrivals.pop(held[0].frame_index, None)
            with clock.stage("upsample"):
                held[0] = _with_drift(held, arrival, following, num_classes)
        for measured in held:
            if end_pts is None or measured.item.pts < end_pts:
                yield measured.item
        held.clear()

    for item in items:
        if isinstance(item, Arrival):
            arrivals[item.frame_index] = item
            continue
        if item.own is not None:
            yield from finish(item.own)
        held.append(item)
    yield from finish(None)


def _with_drift(
    chunk: Sequence[Measured[Item]], arrival: Arrival | None, following: np.ndarray | None, num_classes: int
) -> Measured[Item]:
    """A chunk's keyframe with the drift of the chunk; as it is where there is nothing to compare.

    following: labels of the keyframe after the chunk, None where there is none.
    """
    found: Comparison | None = None
    for measured in chunk:
        if measured.sides is not None:
            found = measured.sides if found is None else found + measured.sides
    if found is None and arrival is not None and following is not None:
        found = compare_maps(arrival.labels, following, num_classes)
    if found is None:
        return chunk[0]
    item = replace(chunk[0].item, drift_agreement=found.agreement, drift_iou=found.iou)
    return replace(chunk[0], item=item)
