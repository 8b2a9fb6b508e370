"""Runs of frames that follow one keyframe each, side by side in a batch: where propagation steps, in which order.

A *timeline* is a chunk's frames and behind them the keyframe that follows, where that is read: position p of chunk c.
A *run* is a keyframe in it and the frames up to the next one. Most networks have one run per chunk; one that chooses
keyframes has several.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsvnet.models.segmenter import ChunkBatch, frame_index, next_keyframe_index


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What there is of B chunks at T positions; on the CPU but for the pixels.

    frames: (B, T, 3, h, w) RGB in 0..255. valid: (B, T) bool. index: (B, T) int64, where in the video; of what is not
    valid it means nothing. has_next: position T - 1 is the keyframe after the chunk, and not a frame of its own.
    """

    frames: Tensor
    valid: Tensor
    index: Tensor
    has_next: bool

    @property
    def length(self) -> int:
        """Positions that are the chunk's own."""
        return self.valid.shape[1] - self.has_next

    @property
    def before(self) -> Tensor:
        """(B, T) int64: the last valid position in front of each; position 0 where there is none."""
        places = torch.where(self.valid, torch.arange(self.valid.shape[1]), 0).cummax(dim=1).values
        return torch.cat([torch.zeros_like(places[:, :1]), places[:, :-1]], dim=1)

    @property
    def behind(self) -> Tensor:
        """(B, T) int64: the first valid position behind each; the last position where there is none."""
        last = self.valid.shape[1] - 1
        places = torch.where(self.valid, torch.arange(last + 1), last).flip(1).cummin(dim=1).values.flip(1)
        return torch.cat([places[:, 1:], torch.full_like(places[:, :1], last)], dim=1)


def without_gaps(timeline: Timeline) -> Timeline:
    """The timeline as it would be if no frame of it were missing."""
    index = torch.arange(timeline.index.shape[1]).expand_as(timeline.index)
    return replace(timeline, valid=torch.ones_like(timeline.valid), index=index)


def make_timeline(chunks: ChunkBatch) -> Timeline:
    """The timeline of a batch that has `frames`; with `next_frames` the keyframes after its chunks too."""
    assert chunks.frames is not None, "propagation reads ChunkBatch.frames"
    valid, index = chunks.valid.cpu(), frame_index(chunks)
    if chunks.next_frames is None:
        return Timeline(frames=chunks.frames, valid=valid, index=index, has_next=False)
    assert chunks.next_valid is not None, "which next keyframes are there belongs to them"
    return Timeline(
        frames=torch.cat([chunks.frames, chunks.next_frames[:, None]], dim=1),
        valid=torch.cat([valid, chunks.next_valid.cpu()[:, None]], dim=1),
        index=torch.cat([index, next_keyframe_index(chunks)[:, None]], dim=1),
        has_next=True,
    )


@dataclass(frozen=True, kw_only=True)
class Runs:
    """R runs. chunk, start, stop: (R,) int64; [start, stop) are positions in a Timeline, the first the keyframe.

    followed: (R,) bool, whether a keyframe stands at position `stop`.
    """

    chunk: Tensor
    start: Tensor
    stop: Tensor
    followed: Tensor

    @property
    def longest(self) -> int:
        """Positions of the longest run."""
        return int((self.stop - self.start).max())

    def positions(self, offset: int) -> Tensor:
        """(R,) int64: positions `offset` behind the keyframes, none behind `stop`."""
        return (self.start + offset).minimum(self.stop)

    def stepped_to(self, offsets: Iterable[int]) -> list[int]:
        """All positions at these offsets, ascending."""
        return sorted({p for offset in offsets for p in self.positions(offset).tolist()})

    def inside(self, offset: int, valid: Tensor) -> Tensor:
        """(R,) bool: which runs have a frame of their own at this offset that is valid. valid: (B, T)."""
        position = self.start + offset
        return (position < self.stop) & valid[self.chunk, position.clamp(max=valid.shape[1] - 1)]

    def nearness(self, offset: int, index: Tensor) -> Tensor:
        """(R,) float32 in 0..1: how far the frames are on the way to the next keyframe, by the video's own counting.

        0 where none follows. index: (B, T), of a Timeline.
        """
        begin = index[self.chunk, self.start]
        end = index[self.chunk, self.stop.clamp(max=index.shape[1] - 1)]
        gone = index[self.chunk, self.positions(offset).clamp(max=index.shape[1] - 1)] - begin
        share = gone / (end - begin).clamp(min=1)
        return torch.where(self.followed, share.clamp(0, 1), 0.0)


def whole_chunks(timeline: Timeline) -> Runs:
    """One run per chunk."""
    every = torch.arange(len(timeline.valid))
    followed = timeline.valid[:, -1] if timeline.has_next else torch.zeros(len(every), dtype=torch.bool)
    return Runs(
        chunk=every,
        start=torch.zeros_like(every),
        stop=torch.full_like(every, timeline.length),
        followed=followed,
    )
