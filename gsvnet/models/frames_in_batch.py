"""The frames of a ChunkBatch by their index in the video, for networks to which chunks mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from gsvnet.models.segmenter import ChunkBatch, LogitsBatch, context_index, frame_index

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[Item]):
    """Some items that run at once. padding: how often the last one runs once more, so that all batches are as large."""

    items: Sequence[Item]
    padding: int

    @property
    def filled(self) -> list[Item]:
        """The items, and the last one again for padding."""
        return [*self.items, *[self.items[-1]] * self.padding]


def even_batches(items: Sequence[Item], size: int) -> Iterator[Batch[Item]]:
    """All items, `size` at a time."""
    for first in range(0, len(items), size):
        part = items[first : first + size]
        yield Batch(items=part, padding=size - len(part))


@dataclass(frozen=True, kw_only=True)
class FramesInBatch:
    """own: (chunk, position) of each frame to label; context: place in `around` of each frame to look at; by index.

    around: the context frames' images (n, 3, H, W), those before the batch and then those after it.
    """

    chunks: ChunkBatch
    own: Mapping[int, tuple[int, int]]
    context: Mapping[int, int]
    around: Tensor

    @classmethod
    def of(cls, chunks: ChunkBatch) -> FramesInBatch:
        """All valid frames of a batch, in display order, and those around it."""
        index, valid = frame_index(chunks), chunks.valid.cpu()
        places = ((c, p) for c, p in valid.nonzero().tolist())
        own = {int(index[place]): place for place in places}
        before = chunks.keyframes[:0] if chunks.before is None else chunks.before
        after = chunks.keyframes[:0] if chunks.after is None else chunks.after
        context = {number: n for n, number in enumerate(torch.cat(context_index(chunks)).tolist())}
        return cls(chunks=chunks, own=own, context=context, around=torch.cat([before, after]))

    def images(self, indices: Sequence[int]) -> Tensor:
        """Pixels (n, 3, H, W) of frames, a pixel's values neighbours in memory: what `Normalise` is fast on."""
        return torch.stack([self._image(index).movedim(0, -1) for index in indices]).movedim(-1, 1)

    def output(self, logits: Mapping[int, Tensor], *, align_corners: bool) -> LogitsBatch:
        """Logits (C, h, w) of frames to label, by index."""
        chunk, position = torch.tensor([self.own[index] for index in logits]).unbind(1)
        return LogitsBatch(
            chunk=chunk, position=position, logits=torch.stack(list(logits.values())), align_corners=align_corners
        )

    def _image(self, index: int) -> Tensor:
        if index not in self.own:
            return self.around[self.context[index]]
        chunk, position = self.own[index]
        return self.chunks.keyframes[chunk] if self.chunks.frames is None else self.chunks.frames[chunk, position]
