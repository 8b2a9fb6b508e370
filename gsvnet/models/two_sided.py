"""Frames between two keyframes, labeled from both: forward from the one before them, backward from the one behind.

Offline, the future is known. Steps of the propagation are what costs time, and far from their keyframe they mend little
that the other side does not say better: only frames in the middle of the way are stepped onto from both sides. Beyond
the middle a side's labels just move along the flow, which is the other side's turned round. Each place counts a side

- by nearness: the share of the way that lies behind the frame, or before it;
- by how sure that side is: its top-1 probability;
- by trust: whether the place was in view all the way from the keyframe, and looked alike at every step.

A car drives forward, so backward in time the picture shrinks, and what comes in at its border no keyframe behind has
seen: trust is what makes the two sides unequal there.

Shapes: R runs, C classes, h w the grid. A *state* is (R, C + 1, h, w) float32: logits, gain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvnet.models.runs import Runs, Timeline
from gsvnet.models.steps import Maps, Views, keep_where
from gsvnet.nn.best_class import best_class
from gsvnet.nn.warp import warp

ONE_SIDED_SHARE = 0.4
"""Of the way between two keyframes: nearer than this to one of them, labels of the other only move."""
NEAR_FRAMES = 2
"""So near to a keyframe its labels, moved along the flow alone, are as good as those that went through the filter."""
CHANGE_LEVELS = 15.0
"""Grey levels of change in a step that leave 1/e of the trust."""
_LEAST_TRUST = 0.01  # so that something counts where no side is trusted
_ROUNDING = 1e-6
_Found = tuple[Tensor, Tensor]  # states and trust


def measure_change(current: Tensor, source: Tensor, flow: Tensor) -> Tensor:
    """How much each place differs from where its flow leads: mean over the colours in grey levels, (N, 1, h, w).

    current, source: (N, 3, h, w) in 0..255. flow: (N, 2, h, w), current -> source. Beyond the border the rim counts.
    """
    return (current.float() - warp(source, flow, beyond="border")).abs().mean(dim=1, keepdim=True)


def trust_after(trust: Tensor, flow: Tensor, change: Tensor) -> Tensor:
    """Trust (N, 1, h, w) in 0..1 after a step: less where the picture changed, none where it comes from outside."""
    return warp(trust, flow) * torch.exp(change / -CHANGE_LEVELS)


def fuse_sides(
    before: Tensor, behind: Tensor, *, trust_before: Tensor, trust_behind: Tensor, nearness: Tensor
) -> Tensor:
    """One state of two of the same frames.

    trust_*: (R, 1, h, w). nearness: (R,) in 0..1, how far a frame is on its way to the keyframe behind.
    """
    share = nearness.to(before.device).view(-1, 1, 1, 1)
    ahead = (1 - share) * (trust_before + _LEAST_TRUST) * _top_probability(before)
    back = share * (trust_behind + _LEAST_TRUST) * _top_probability(behind)
    return torch.lerp(before, behind, back / (ahead + back))


def _top_probability(state: Tensor) -> Tensor:
    """(R, 1, h, w): how sure each place is; without what propagation scaled its logits by, as confidence is."""
    gain = state[:, -1:]
    logits = state[:, :-1] / torch.where(gain > 0, gain, torch.inf)
    return 1 / (logits - logits.amax(dim=1, keepdim=True)).exp_().sum(dim=1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How frames of R runs of length L are reached from the keyframe before them and from the one behind.

    nearness: (L, R), see `Runs.nearness`, by offset from the keyframe.
    """

    nearness: Tensor
    before: Side
    behind: Side


@dataclass(frozen=True, kw_only=True)
class Side:
    """Which frames are reached from one keyframe, and how; all (L, R) bool.

    reached: labels get there. stepped: in a step of the propagation; else they only move along the flow. near: the mean
    of both is taken, of what was filtered at every step and of what never was.
    """

    reached: Tensor
    stepped: Tensor
    near: Tensor


def find_reach(runs: Runs, timeline: Timeline, *, one_sided_share: float = ONE_SIDED_SHARE) -> Reach:
    """Both keyframes reach all frames between them; where none follows, the one before. The other's steps end early."""
    offsets = range(runs.longest)
    nearness = torch.stack([runs.nearness(offset, timeline.index) for offset in offsets])
    inside = torch.stack([runs.inside(offset, timeline.valid) for offset in offsets])
    inside[0] = False  # keyframes
    last = timeline.index.shape[1] - 1
    length = timeline.index[runs.chunk, runs.stop.clamp(max=last)] - timeline.index[runs.chunk, runs.start]
    both, share, near = inside & runs.followed, one_sided_share - _ROUNDING, (NEAR_FRAMES + _ROUNDING) / length
    return Reach(
        nearness=nearness,
        before=Side(reached=inside, stepped=inside & (~both | (1 - nearness >= share)), near=both & (nearness <= near)),
        behind=Side(reached=both, stepped=both & (nearness >= share), near=both & (1 - nearness <= near)),
    )


@dataclass(frozen=True, kw_only=True)
class Reached:
    """States (R, C + 1, h, w) of the frames of R runs at one offset, those that `rows` (R,) bool says.

    sides: (R, 2, h, w) uint8, the labels before and behind of which the states are made; None: of one side alone.
    """

    offset: int
    rows: Tensor
    state: Tensor
    sides: Tensor | None = None


def reach_both_ways(views: Views, before: Tensor, behind: Tensor, runs: Runs, reach: Reach) -> Iterator[Reached]:
    """All frames of the runs but keyframes, in the order of offsets.

    before, behind: states of the keyframes that runs begin with, and of those that follow them. Backward comes first,
    and what it finds is kept.
    """
    wanted = reach.before.reached.any(dim=1).nonzero()[:, 0].tolist()
    if not wanted:
        return
    offsets = range(1, wanted[-1] + 1)
    ahead = _Way(offsets=offsets, side=reach.before, sources=views.timeline.before)
    back = _Way(offsets=offsets[::-1], side=reach.behind, sources=views.timeline.behind)
    flow_ahead, flow_back = find_flows(views, runs, ahead, back)
    intra = views.intra(sorted({*ahead.step_positions(runs), *back.step_positions(runs)}))
    kept: dict[int, _Found] = {}
    if reach.behind.reached.any():
        kept = dict(zip(back.offsets, _walk(views, behind, runs, back, flow_back, intra)))
    forward = _walk(views, before, runs, ahead, flow_ahead, intra)
    for offset, found in zip(offsets, forward):
        yield from _join(offset, reach, found, kept.pop(offset, None))


def _join(offset: int, reach: Reach, before: _Found, behind: _Found | None) -> Iterator[Reached]:
    """Frames at one offset that are of the keyframe before them alone, and those that are of both."""
    both = reach.behind.reached[offset]
    yield Reached(offset=offset, rows=reach.before.reached[offset] & ~both, state=before[0])
    if behind is not None and both.any():
        fused = fuse_sides(
            before[0], behind[0], trust_before=before[1], trust_behind=behind[1], nearness=reach.nearness[offset]
        )
        sides = torch.stack([best_class(state[:, :-1]) for state, _ in (before, behind)], dim=1)
        yield Reached(offset=offset, rows=both, state=fused, sides=sides)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One direction. offsets: in the order of steps. sources: (B, T), where a step onto each position begins."""

    offsets: Sequence[int]
    side: Side
    sources: Tensor

    def step_positions(self, runs: Runs) -> set[int]:
        """Positions that some run steps onto."""
        return {p for o in self.offsets for p in runs.positions(o)[self.side.stepped[o]].tolist()}

    def move_sources(self, runs: Runs) -> set[int]:
        """Positions from which some run only moves on."""
        found = set()
        for offset in self.offsets:
            moved = self.side.reached[offset] & ~self.side.stepped[offset]
            found |= set(self.sources[runs.chunk, runs.positions(offset)][moved].tolist())
        return found


def find_flows(views: Views, runs: Runs, ahead: _Way, back: _Way) -> tuple[_Flows, _Flows]:
    """Flow of both directions. Where a side only moves on, it is the other direction's, turned round."""
    found = []
    for way, other in ((ahead, back), (back, ahead)):
        positions = way.step_positions(runs) | other.move_sources(runs)
        found.append(views.flow(positions, way.sources) if positions else None)
    return _Flows(own=found[0], opposite=found[1]), _Flows(own=found[1], opposite=found[0])


def turn_round(flow: Tensor) -> Tensor:
    """Flow (N, 2, h, w) of the frames that `flow` leads to, back to its own: nearly, where motion varies smoothly."""
    return -warp(flow, -flow, beyond="border")


@dataclass(frozen=True, kw_only=True)
class _Flows:
    """Flow of one direction at the positions that are stepped onto, and of the other one where it is to be turned."""

    own: Maps | None
    opposite: Maps | None

    def at(self, chunk: Tensor, position: Tensor, source: Tensor, turned: Tensor) -> Tensor:
        """(R, 2, h, w): from the frames at `position` to those at `source`; turned: (R,), whose is turned."""
        if self.opposite is None or not turned.any():
            assert self.own is not None, "a frame that is stepped onto has a flow"
            return self.own.at(chunk, position)
        found = turn_round(self.opposite.at(chunk, source))
        return found if turned.all() or self.own is None else keep_where(turned, found, self.own.at(chunk, position))


def _walk(views: Views, state: Tensor, runs: Runs, way: _Way, flows: _Flows, intra: Maps | None) -> Iterator[_Found]:
    """States and trust (R, 1, h, w) of all runs at each of the way's offsets, one after the other.

    A frame that is not there is stepped over: its run keeps both.
    """
    frames, trust = views.timeline.frames, torch.ones_like(state[:, :1])
    unfiltered = state
    for offset in way.offsets:
        here = runs.positions(offset).clamp(max=frames.shape[1] - 1)
        source = way.sources[runs.chunk, here]
        near, missing = way.side.near[offset], ~way.side.reached[offset]
        moves = ~way.side.stepped[offset] & ~missing
        if not missing.all():
            flow = flows.at(runs.chunk, here, source, moves)
            change = measure_change(frames[runs.chunk, here], frames[runs.chunk, source], flow)
            trust = keep_where(missing, trust, trust_after(trust, flow, change))
            state = keep_where(missing, state, _advance(views, state, flow, intra, runs.chunk, here, moves))
            if near.any():
                unfiltered = keep_where(missing, unfiltered, warp(unfiltered, flow))
        yield (keep_where(~near, state, (state + unfiltered) / 2) if near.any() else state), trust


def _advance(
    views: Views, state: Tensor, flow: Tensor, intra: Maps | None, chunk: Tensor, position: Tensor, moves: Tensor
) -> Tensor:
    """States at `position` (R,): moved along the flow where `moves` (R,) says so, else after a step."""
    if moves.all():
        return warp(state, flow)
    stepped = views.propagation.step(state, flow, None if intra is None else intra.at(chunk, position))
    return keep_where(moves, warp(state, flow), stepped) if moves.any() else stepped
