"""Frames between two keyframes, labeled from both: forward from the one before them, backward from the one behind.

Offline, the future is known. Steps of the propagation are what costs time, so each frame is stepped onto from the
nearer keyframe; the other side's labels go on from the middle of the way, but just move along the flow.
That flow is the nearer side's turned round, so it costs nothing. Each place counts a side

- by nearness: the share of the way that lies behind the frame, or before it;
- by how sure that side is: its top-1 probability;
- by trust: whether the place was in view all the way from the keyframe, and looked alike at every step.

Very near a keyframe the filter blurs more than it mends: half of what counts there has only moved, and what the grid
leaves out of the keyframe's own logits moves along and is added again.

A car drives forward, so backward in time the picture shrinks, and what comes in at its border no keyframe behind has
seen: trust is what makes the two sides unequal there.

Shapes: R runs, C classes, h w the grid. A *state* is (R, C + 1, h, w) float32: logits, gain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsvnet.models.runs import Runs, Timeline, without_gaps
from gsvnet.models.steps import Maps, Views, join_maps, keep_where
from gsvnet.nn.best_class import best_class
from gsvnet.nn.blocks import resize
from gsvnet.nn.warp import warp

ONE_SIDED_SHARE = 0.5
"""Of the way between two keyframes: nearer than this to one of them, labels of the other only move."""
NEAR_FRAMES = 2
"""So near to a keyframe its labels, moved along the flow alone, are as good as those that went through the filter."""
DETAIL_FRAMES = 3
"""So near to a keyframe what the grid leaves out of its own logits is worth its time."""
CHANGE_LEVELS = 15.0
"""Grey levels of change in a step that leave 1/e of the trust."""
_LEAST_TRUST = 0.01  # so that something counts where no side is trusted
_ROUNDING = 1e-6


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
    # Sums over classes round by the order in memory, which depends on whether some run of the batch stood still.
    before, behind = before.contiguous(), behind.contiguous()
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

    nearness: (L, R), see `Runs.nearness`, by offset from the keyframe. usual_before, usual_behind: how they would be
    reached if no frame were missing and a keyframe followed every run.
    """

    nearness: Tensor
    before: Side
    behind: Side
    usual_before: Side
    usual_behind: Side


@dataclass(frozen=True, kw_only=True)
class Side:
    """Which frames are reached from one keyframe, and how; all (L, R) bool.

    reached: labels get there. stepped: in a step of the propagation; else they only move along the flow. near: the mean
    of both is taken, of what was filtered at every step and of what never was. detailed: with the keyframe's detail.
    """

    reached: Tensor
    stepped: Tensor
    near: Tensor
    detailed: Tensor


def find_reach(runs: Runs, timeline: Timeline, *, one_sided_share: float = ONE_SIDED_SHARE) -> Reach:
    """Both keyframes reach all frames between them; where none follows, the one before. The other's steps end early."""
    nearness, before, behind = _look_both_ways(runs, timeline, one_sided_share)
    followed = replace(runs, followed=torch.ones_like(runs.followed))
    _, usual_before, usual_behind = _look_both_ways(followed, without_gaps(timeline), one_sided_share)
    return Reach(nearness=nearness, before=before, behind=behind, usual_before=usual_before, usual_behind=usual_behind)


def _look_both_ways(runs: Runs, timeline: Timeline, one_sided_share: float) -> tuple[Tensor, Side, Side]:
    offsets = range(runs.longest)
    nearness = torch.stack([runs.nearness(offset, timeline.index) for offset in offsets])
    inside = torch.stack([runs.inside(offset, timeline.valid) for offset in offsets])
    inside[0] = False  # keyframes
    last = timeline.index.shape[1] - 1
    length = timeline.index[runs.chunk, runs.stop.clamp(max=last)] - timeline.index[runs.chunk, runs.start]
    both = inside & runs.followed

    def look(reached: Tensor, gone: Tensor) -> Side:
        """From a keyframe: gone, (L, R), is the share of the way from there."""
        return Side(
            reached=reached,
            stepped=reached & (~both | (1 - gone >= one_sided_share - _ROUNDING)),
            near=both & (gone * length <= NEAR_FRAMES + _ROUNDING * length),
            detailed=both & (gone * length <= DETAIL_FRAMES + _ROUNDING * length),
        )

    return nearness, look(inside, nearness), look(both, 1 - nearness)


@dataclass(frozen=True, kw_only=True)
class Ends:
    """The keyframes on one side of R runs. state: (R, C + 1, h, w). detail: of `find_detail`, or None."""

    state: Tensor
    detail: Tensor | None = None

    def __getitem__(self, rows: slice) -> Ends:
        return Ends(state=self.state[rows], detail=None if self.detail is None else self.detail[rows])


def find_detail(logits: Tensor, state: Tensor, *, align_corners: bool) -> Tensor | None:
    """What a keyframe's own logits (N, C, H, W) say that its state (N, C + 1, h, w) does not: (N, C, H, W).

    None where the propagation grid is as fine as theirs.
    """
    if logits.shape[-2] <= state.shape[-2]:
        return None
    return logits - resize(state[:, :-1], logits.shape[-2:], align_corners=align_corners)


@dataclass(frozen=True, kw_only=True)
class Reached:
    """States (R, C + 1, h', w') of the frames of R runs at one offset, those that `rows` (R,) bool says.

    They are on the propagation grid, or on their keyframe's finer one. sides: (R, 2, h, w) uint8, the labels before and
    behind of which the states are made; None: of one side alone.
    """

    offset: int
    rows: Tensor
    state: Tensor
    sides: Tensor | None = None


def reach_both_ways(
    views: Views, before: Ends, behind: Ends, runs: Runs, reach: Reach, *, align_corners: bool
) -> Iterator[Reached]:
    """All frames of the runs but keyframes, in the order of offsets.

    before, behind: the keyframes that runs begin with, and those that follow them. Backward comes first, and what it
    finds is kept. align_corners: corner convention of the keyframes' logits.
    """
    wanted = reach.before.reached.any(dim=1).nonzero()[:, 0].tolist()
    if not wanted:
        return
    offsets = range(1, wanted[-1] + 1)
    ahead = _Way(offsets=offsets, side=reach.before, sources=views.timeline.before)
    back = _Way(offsets=offsets[::-1], side=reach.behind, sources=views.timeline.behind)
    whole = without_gaps(views.timeline)
    usual_ahead = _Way(offsets=range(1, runs.longest), side=reach.usual_before, sources=whole.before)
    usual_back = _Way(offsets=range(1, runs.longest), side=reach.usual_behind, sources=whole.behind)
    own = _find_flow(views, runs, (ahead, back), (usual_ahead, usual_back))
    opposite = _find_flow(views, runs, (back, ahead), (usual_back, usual_ahead))
    flow_ahead, flow_back = _Flows(own=own, opposite=opposite), _Flows(own=opposite, opposite=own)
    intra = views.intra(runs.stepped_to(range(1, runs.longest)))
    kept: dict[int, _Found] = {}
    if reach.behind.reached.any():
        kept = dict(zip(back.offsets, _walk(views, behind, runs, back, flow_back, intra, align_corners)))
    forward = _walk(views, before, runs, ahead, flow_ahead, intra, align_corners)
    for offset, found in zip(offsets, forward):
        yield from _join(offset, reach, found, kept.pop(offset, None), align_corners)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What one side says of R frames: states, trust (R, 1, h, w), and a near keyframe's detail, moved along."""

    state: Tensor
    trust: Tensor
    detail: Tensor | None


def _join(offset: int, reach: Reach, before: _Found, behind: _Found | None, align_corners: bool) -> Iterator[Reached]:
    """Frames at one offset that are of the keyframe before them alone, and those that are of both."""
    both = reach.behind.reached[offset]
    yield Reached(offset=offset, rows=reach.before.reached[offset] & ~both, state=before.state)
    if behind is None or not both.any():
        return
    nearness = reach.nearness[offset]
    fused = fuse_sides(
        before.state, behind.state, trust_before=before.trust, trust_behind=behind.trust, nearness=nearness
    )
    sides = torch.stack([best_class(found.state[:, :-1]) for found in (before, behind)], dim=1)
    shares = torch.stack([reach.before.detailed[offset] * (1 - nearness), reach.behind.detailed[offset] * nearness])
    detail = _mean_detail((before.detail, behind.detail), shares)
    finely = torch.zeros_like(both) if detail is None else both & (shares.sum(dim=0) > 0)
    yield Reached(offset=offset, rows=both & ~finely, state=fused, sides=sides)
    if detail is not None:
        finer = resize(fused, detail.shape[-2:], align_corners=align_corners)
        finer[:, :-1] += detail
        yield Reached(offset=offset, rows=finely, state=finer, sides=sides)


def _mean_detail(details: tuple[Tensor | None, Tensor | None], shares: Tensor) -> Tensor | None:
    """(R, C, H, W), by the sides' shares (2, R); None where neither has any."""
    before, behind = (detail if share.any() else None for detail, share in zip(details, shares))
    if before is None or behind is None:
        return behind if before is None else before
    weight = shares[1] / shares.sum(dim=0).clamp(min=_ROUNDING)
    return torch.lerp(before, behind, weight.to(before.device).view(-1, 1, 1, 1))


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


def _flow_positions(runs: Runs, way: _Way, other: _Way) -> set[int]:
    """Where a direction's flow is needed: where it steps, and where the other one only moves on, by it turned round."""
    return way.step_positions(runs) | other.move_sources(runs)


def _find_flow(views: Views, runs: Runs, ways: tuple[_Way, _Way], usual_ways: tuple[_Way, _Way]) -> Maps | None:
    """Flow of the first way at all positions where some run needs it; None where none does.

    How flow comes out depends in the last bits on how much is found at once. So the usual positions are always found
    together, and if any other is needed, all others are: what else is in a batch changes nothing.
    """
    needed, usual, sources = _flow_positions(runs, *ways), _flow_positions(runs, *usual_ways), ways[0].sources
    if not needed:
        return None
    found = [views.flow(usual, sources)] if usual else []
    known = {position for maps in found for position in maps.positions.tolist()}
    if not needed <= known:
        found.append(views.flow(set(range(sources.shape[1])) - known, sources))
    return join_maps(found)


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


def _walk(
    views: Views, ends: Ends, runs: Runs, way: _Way, flows: _Flows, intra: Maps | None, align_corners: bool
) -> Iterator[_Found]:
    """What a side says of all runs at each of the way's offsets, one after the other.

    A frame that is not there is stepped over: its run keeps everything.
    """
    frames, trust = views.timeline.frames, torch.ones_like(ends.state[:, :1])
    state, unfiltered, detail = ends.state, ends.state, ends.detail
    for offset in way.offsets:
        here = runs.positions(offset).clamp(max=frames.shape[1] - 1)
        source = way.sources[runs.chunk, here]
        near, missing, detailed = way.side.near[offset], ~way.side.reached[offset], way.side.detailed[offset].any()
        moves = ~way.side.stepped[offset] & ~missing
        if not missing.all():
            flow = flows.at(runs.chunk, here, source, moves)
            change = measure_change(frames[runs.chunk, here], frames[runs.chunk, source], flow)
            trust = keep_where(missing, trust, trust_after(trust, flow, change))
            state = keep_where(missing, state, _advance(views, state, flow, intra, runs.chunk, here, moves))
            if near.any():
                unfiltered = keep_where(missing, unfiltered, warp(unfiltered, flow))
            if detailed and detail is not None:
                fine = enlarge_flow(flow, detail.shape[-2:], align_corners=align_corners)
                detail = keep_where(missing, detail, warp(detail, fine))
        mean = keep_where(~near, state, (state + unfiltered) / 2) if near.any() else state
        yield _Found(state=mean, trust=trust, detail=detail if detailed else None)


def enlarge_flow(flow: Tensor, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """Flow (N, 2, h, w) on a grid of another size (H, W), in that grid's pixels."""
    gap = int(align_corners)  # corners that are centres of pixels: lengths are counted between centres
    (h, w), (height, width) = (max(1, n - gap) for n in flow.shape[-2:]), (n - gap for n in size)
    scale = flow.new_tensor([width / w, height / h]).view(2, 1, 1)
    return resize(flow, size, align_corners=align_corners) * scale


def _advance(
    views: Views, state: Tensor, flow: Tensor, intra: Maps | None, chunk: Tensor, position: Tensor, moves: Tensor
) -> Tensor:
    """States at `position` (R,): moved along the flow where `moves` (R,) says so, else after a step."""
    if moves.all():
        return warp(state, flow)
    stepped = views.propagation.step(state, flow, None if intra is None else intra.at(chunk, position))
    return keep_where(moves, warp(state, flow), stepped) if moves.any() else stepped
