"""What propagation sees of images before it steps: nothing of it depends on a prediction, so it all runs at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvnet.models.propagation import Propagation
from gsvnet.models.runs import Timeline
from gsvnet.nn.blocks import equal_batches


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps of some positions of B chunks. of: (B, n, ..., h, w). positions: (n,) int64, ascending."""

    of: Tensor
    positions: Tensor

    def at(self, chunk: Tensor, position: Tensor) -> Tensor:
        """(R, ..., h, w), of these (R,) places; of a position without a map another one's, which nobody reads."""
        column = torch.searchsorted(self.positions, position).clamp(max=len(self.positions) - 1)
        return self.of[chunk, column]


def join_maps(parts: Sequence[Maps]) -> Maps:
    """The maps of several sets of positions as one; no position is in two."""
    positions, order = torch.cat([part.positions for part in parts]).sort()
    return Maps(of=torch.cat([part.of for part in parts], dim=1)[:, order], positions=positions)


@dataclass(frozen=True, kw_only=True)
class Views:
    """A timeline as the propagation reads it. frames: (B, T, 3, h, w) normalised. batch: most images at a time."""

    propagation: Propagation
    timeline: Timeline
    frames: Tensor
    batch: int

    def flow(self, positions: Collection[int], sources: Tensor) -> Maps:
        """Flow of the frames at `positions` to those that `sources` (B, T) names for each position."""
        wanted = torch.tensor(sorted(positions))
        return self._compute(wanted, self.propagation.estimate_flow, *_pairs(self.frames, wanted, sources))

    def intra(self, positions: Collection[int]) -> Maps | None:
        """Crude logits of the frames at `positions`; None where the propagation has none, or there are no positions."""
        if not positions:
            return None
        wanted, parts = torch.tensor(sorted(positions)), []
        frames = self.frames[:, wanted].flatten(0, 1)
        for rows, new in equal_batches(len(frames), self.batch):
            crude = self.propagation.glance(frames[rows])
            if crude is None:
                return None
            parts.append(crude[new])
        return Maps(of=torch.cat(parts).unflatten(0, (-1, len(wanted))), positions=wanted)

    def compare(self, flow: Maps, sources: Tensor, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Maps:
        """A function of frames (N, 3, h, w) in 0..255, of those that their flow leads to, and of the flow."""
        pairs = _pairs(self.timeline.frames, flow.positions, sources)
        return self._compute(flow.positions, function, *pairs, flow.of)

    def _compute(self, positions: Tensor, function: Callable[..., Tensor], *images: Tensor) -> Maps:
        """Maps of a function of images (B, n, ..., h, w) at n positions, a few images at a time."""
        flat = [x.flatten(0, 1) for x in images]
        parts = [function(*(x[rows] for x in flat))[new] for rows, new in equal_batches(len(flat[0]), self.batch)]
        return Maps(of=torch.cat(parts).unflatten(0, images[0].shape[:2]), positions=positions)


def keep_where(kept: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Rows of `old` where `kept` (R,) bool says so, else of `new`; both (R, C, h, w)."""
    return torch.where(kept.view(-1, 1, 1, 1).to(old.device), old, new) if kept.any() else new


def _pairs(frames: Tensor, positions: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (B, n, ...) at positions (n,), and those that each is to be compared with."""
    return frames[:, positions], frames[torch.arange(len(sources))[:, None], sources[:, positions]]
