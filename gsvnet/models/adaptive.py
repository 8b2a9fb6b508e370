"""GSVNet that chooses its keyframe interval: as long as labels still agree where chunks meet, stretch by stretch.

How far a keyframe's labels may be carried depends on the scene: while the car stands, a second; in a turn, a frame or
two. So in each stretch of 24 frames labels are first moved along flow alone, over the longest interval, which costs
next to nothing. How many of them agree with the next keyframe's own says which interval to label the stretch with.
Where its chunks then meet, the labels that arrive are compared in the same way; if fewer agree than was asked for, a
shorter interval is taken. A scene cut starts a chunk, and nothing is carried across it.

A stretch sees nothing but its own frames and the keyframe behind it. So what is chosen depends neither on where a video
is cut into shards nor on who labels it. Flow and intra features are found once, whatever is tried on them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.runs import Runs, Timeline, make_timeline
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, run_images
from gsvnet.models.steps import Maps, Views, keep_where
from gsvnet.models.two_sided import Ends, find_detail, measure_change
from gsvnet.nn.best_class import best_class
from gsvnet.nn.blocks import equal_batches
from gsvnet.nn.warp import warp

INTERVALS = (12, 8, 5, 4, 3, 2, 1)
DRIFT_POWER = 0.42
"""Disagreement grows as distance to this power: default weights, distances 1 to 12, CamVid's val clip (no truth is in
it). On two clips of motorways, where most of it is there after one frame, 0.25."""
MOVED_SHARE = 0.75
"""Disagreement after 12 frames of propagation as a share of that of labels that only moved along flow: likewise;
on the motorways 0.82."""
CUT_CHANGE = 0.45
"""A cut is where a frame differs from the one before it, moved along flow, by this much of the spread of its pixels."""
_LEAST_SPREAD = 8.0  # grey levels


class AdaptiveGSVNet(GSVNet):
    """A GSVNet whose chunks are stretches (`chunks.STRETCH_FRAMES`), in which it places keyframes itself."""

    min_agreement: float

    @classmethod
    def of(cls, model: GSVNet, *, min_agreement: float) -> AdaptiveGSVNet:
        """`model` with intervals of its own choice; weights are shared.

        min_agreement: share of places that should have the same label where chunks of a stretch meet, on average.
        Raises ConfigError for what is no share, ModelError for networks that do more than GSVNet.
        """
        if type(model) not in (GSVNet, cls):
            raise ModelError(f"a least agreement chooses intervals for GSVNet itself, not for {type(model).__name__}")
        if not 0 < min_agreement <= 1:
            raise ConfigError(f"least agreement {min_agreement:g}: above 0 and at most 1 is allowed")
        adaptive = copy.copy(model)
        adaptive.__class__ = cls
        assert isinstance(adaptive, cls)
        adaptive.min_agreement = min_agreement
        return adaptive

    def needs(self, height: int, width: int) -> FrameNeeds:
        """What GSVNet needs, of every frame what it needs of keyframes, and the keyframe behind each stretch."""
        return replace(super().needs(height, width), every_keyframe=True, next_keyframe=True, next_frame=True)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Stretch by stretch: its keyframes, then its other frames."""
        assert chunks.candidates is not None, "every frame may become a keyframe: needs ChunkBatch.candidates"
        timeline = make_timeline(chunks)
        views = RememberingViews(**vars(self.view(timeline)))
        first, cuts = self.label_images(chunks.keyframes), find_cuts(views)
        for b in timeline.valid[:, 0].nonzero()[:, 0].tolist():
            known = {0: first[b], timeline.length: first[b + 1]}
            keyframes = Keyframes(self, chunks.candidates[b], known, grid=timeline.frames.shape[-2:])
            for scene in find_scenes(timeline, b, cuts[b]):
                yield from self._label_scene(views, keyframes, scene)

    def label_images(self, images: Tensor) -> list[Tensor]:
        """Logits (C, h, w) of images (N, 3, H, W), each on the keyframe network's own grid."""
        logits: list[Tensor] = []
        for rows, new in equal_batches(len(images), self.keyframe_batch):
            logits += run_images(self.keyframe_network, self.keyframe_normalise(images[rows])).float()[new]
        return logits

    def _label_scene(self, views: Views, keyframes: Keyframes, scene: Scene) -> Iterator[LogitsBatch]:
        """All frames of one scene of a stretch, at the longest interval at which its chunks agree."""
        interval = self._guess_interval(views, keyframes, scene)
        passed: list[LogitsBatch] = []
        while interval > 1:
            runs = scene.cut(interval)
            passed = list(self.go_forward(keyframes.states(runs.start), views, runs, arrives=True))
            agreement = self._agreement(keyframes, runs, passed)
            if agreement >= self.min_agreement:
                break
            interval = next_interval(interval, agreement, self.min_agreement)
        runs = scene.cut(interval)
        labels = self._label_both_ways(views, keyframes, runs) if self.references == "both" else passed
        for output in (self._keyframe_rows(views.timeline, keyframes, runs), *(labels if interval > 1 else ())):
            if output.role == "labels" or self.drift:
                yield replace(output, interval=torch.full_like(output.position, interval))

    def _guess_interval(self, views: Views, keyframes: Keyframes, scene: Scene) -> int:
        """The longest interval that may do, judged by labels that moved along flow over the longest one there is."""
        interval = scene.longest_interval()
        if interval == 1:
            return 1
        runs = scene.cut(interval)
        flow = views.flow(runs.stepped_to(range(1, runs.longest + 1)), views.timeline.before)
        state, moved = keyframes.states(runs.start), []
        for offset in range(1, runs.longest + 1):
            position = runs.positions(offset)
            here = runs.inside(offset, views.timeline.valid)
            meets = runs.followed & (runs.start + offset == runs.stop)
            state = keep_where(~(here | meets), state, warp(state, flow.at(runs.chunk, position)))
            rows = meets.nonzero()[:, 0]
            if len(rows):
                moved.append(_agree(state[rows], keyframes.states(runs.stop[rows])))
        agreement = 1 - MOVED_SHARE * (1 - float(torch.cat(moved).mean())) if moved else 1.0
        return interval if agreement >= self.min_agreement else next_interval(interval, agreement, self.min_agreement)

    def _label_both_ways(self, views: Views, keyframes: Keyframes, runs: Runs) -> Iterator[LogitsBatch]:
        behind = torch.where(runs.followed, runs.stop, runs.start)  # where none follows it may be any
        return self.propagate(keyframes.ends(runs.start), keyframes.ends(behind), views, runs)

    def _agreement(self, keyframes: Keyframes, runs: Runs, passed: list[LogitsBatch]) -> float:
        """Mean share of places whose labels are equal where runs meet; 1 where none do."""
        stop_of = dict(zip(runs.start.tolist(), runs.stop.tolist()))
        shares = []
        for output in passed:
            if output.role == "arrival":
                own = keyframes.states(torch.tensor([stop_of[p] for p in output.position.tolist()]))
                shares += _agree(output.logits, own).tolist()
        return math.fsum(shares) / len(shares) if shares else 1.0

    def _keyframe_rows(self, timeline: Timeline, keyframes: Keyframes, runs: Runs) -> LogitsBatch:
        return LogitsBatch(
            chunk=runs.chunk,
            position=runs.start,
            logits=keyframes.logits(runs.start),
            keyframe=timeline.index[runs.chunk, runs.start],
            start=runs.start,
            align_corners=self.align_corners,
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Frames of stretch `chunk` between two cuts. positions: of those that are there, ascending. end: behind them.

    index: where in the video each of them is. follows: at `end` stands the keyframe behind the stretch, and no cut lies
    between.
    """

    chunk: int
    positions: tuple[int, ...]
    index: tuple[int, ...]
    end: int
    follows: bool

    def longest_interval(self) -> int:
        """The longest interval at which there is something to measure, 1 where there is none."""
        return next((interval for interval in INTERVALS if interval < len(self.positions) + self.follows), 1)

    def cut(self, interval: int) -> Runs:
        """Runs over `interval` frames of the video, lost ones too; the last one may be shorter."""
        starts, origin = [self.positions[0]], self.index[0]
        for position, index in zip(self.positions, self.index):
            if index - origin >= interval:
                starts, origin = [*starts, position], index
        return Runs(
            chunk=torch.full((len(starts),), self.chunk),
            start=torch.tensor(starts),
            stop=torch.tensor([*starts[1:], self.end]),
            followed=torch.tensor([True] * (len(starts) - 1) + [self.follows]),
        )


def find_scenes(timeline: Timeline, chunk: int, is_cut: Tensor) -> list[Scene]:
    """The scenes of a stretch that has a frame at position 0. is_cut: (T,) bool, of the timeline's positions."""
    there = timeline.valid[chunk, : timeline.length].nonzero()[:, 0].tolist()
    borders = [0, *(p for p in there if is_cut[p]), timeline.length]
    goes_on = timeline.has_next and bool(timeline.valid[chunk, -1]) and not bool(is_cut[-1])
    return [
        Scene(
            chunk=chunk,
            positions=tuple(p for p in there if start <= p < end),
            index=tuple(int(timeline.index[chunk, p]) for p in there if start <= p < end),
            end=end,
            follows=goes_on and end == timeline.length,
        )
        for start, end in pairwise(borders)
    ]


def find_cuts(views: Views) -> Tensor:
    """(B, T) bool, on the CPU: which frames are nothing like the one before them."""
    timeline = views.timeline
    flow = views.flow(range(timeline.valid.shape[1]), timeline.before)
    change = views.compare(flow, timeline.before, measure_change).of.mean(dim=(2, 3, 4))
    spread = timeline.frames.float().std(dim=(2, 3, 4)).clamp(min=_LEAST_SPREAD)
    cuts = (change > CUT_CHANGE * spread).cpu() & timeline.valid
    cuts[:, 0] = False  # nothing lies before it
    return cuts


def next_interval(interval: int, agreement: float, wanted: float) -> int:
    """The longest shorter interval that may agree as much as wanted, judged by how much this one does.

    >>> next_interval(12, 0.90, 0.95), next_interval(4, 0.94, 0.95)
    (2, 2)
    """
    allowed = (1 - wanted) / max(1 - agreement, 1e-9)
    shorter = [candidate for candidate in INTERVALS if candidate < interval]
    return next((candidate for candidate in shorter if (candidate / interval) ** DRIFT_POWER <= allowed), shorter[-1])


def _agree(labels: Tensor, state: Tensor) -> Tensor:
    """(N,) float32: share of the places of which logits, or a state, (N, C [+ 1], h, w) and a state say the same."""
    num_classes = state.shape[1] - 1
    same = best_class(labels[:, :num_classes]) == best_class(state[:, :num_classes])
    return same.flatten(1).float().mean(1)


class Keyframes:
    """Keyframes of one stretch by position, each labeled when it is asked for first.

    candidates: (T, 3, H, W), its frames at keyframe size. known: logits (C, h', w') by position. grid: propagation's.
    """

    def __init__(
        self, model: AdaptiveGSVNet, candidates: Tensor, known: dict[int, Tensor], *, grid: Sequence[int]
    ) -> None:
        self._model, self._candidates, self._known, self._grid = model, candidates, known, grid

    def logits(self, positions: Tensor) -> Tensor:
        """(R, C, h', w') of the frames at these (R,) positions."""
        missing = sorted(set(positions.tolist()) - self._known.keys())
        if missing:
            self._known |= zip(missing, self._model.label_images(self._candidates[missing]))
        return torch.stack([self._known[position] for position in positions.tolist()])

    def states(self, positions: Tensor) -> Tensor:
        """(R, C + 1, h, w), where propagation starts from them."""
        return self._model.enter_grid(self.logits(positions), self._grid)

    def ends(self, positions: Tensor) -> Ends:
        """The same with what the propagation grid leaves out."""
        state = self.states(positions)
        detail = find_detail(self.logits(positions), state, align_corners=self._model.align_corners)
        return Ends(state=state, detail=detail)


@dataclass(frozen=True, kw_only=True)
class RememberingViews(Views):
    """Views that find flow and intra features of all positions at once, and once."""

    found: dict[tuple[int, ...], Maps | None] = field(default_factory=dict)

    def flow(self, positions: Collection[int], sources: Tensor) -> Maps:
        """Flow of the frames at all positions to those that `sources` (B, T) names for each position."""
        key = tuple(sources.flatten().tolist())
        if key not in self.found:
            self.found[key] = super().flow(range(sources.shape[1]), sources)
        flow = self.found[key]
        assert flow is not None
        return flow

    def intra(self, positions: Collection[int]) -> Maps | None:
        """Crude logits of the frames at all positions; None where the propagation has none."""
        if () not in self.found:
            self.found[()] = super().intra(range(self.timeline.valid.shape[1]))
        return self.found[()]
