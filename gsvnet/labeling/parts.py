"""Some of a batch's chunks as a batch of their own, for where the whole does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from gsvnet.models.segmenter import ChunkBatch, context_index, frame_index

_CONTEXT = ("before", "before_index", "after", "after_index")


def take_chunks(chunks: ChunkBatch, start: int, stop: int, *, before: int = 0, after: int = 0) -> ChunkBatch:
    """The chunks [start, stop) of a batch; nothing but context is copied.

    before, after: how many frames around a batch the network looks at (`FrameNeeds`). A part's are those of the chunks
    beside it, and the batch's own context. Where the batch holds the keyframe after its last chunk, so does the part.
    """
    if start == 0 and stop >= len(chunks.valid):
        return chunks
    parts = {f.name: getattr(chunks, f.name) for f in fields(chunks) if f.name not in _CONTEXT}
    rows = {name: part[start:stop] for name, part in parts.items() if isinstance(part, Tensor)}
    rows["keyframes"] = chunks.keyframes[start : stop + len(chunks.keyframes) - len(chunks.valid)]
    index = frame_index(chunks)
    rows["index"] = index[start:stop]
    own = index[start:stop][chunks.valid[start:stop].cpu()].tolist()
    first, last = (own[0], own[-1]) if own else (int(index[start, 0]), -1)
    part = replace(chunks, first_frame=first, **rows, before=None, before_index=None, after=None, after_index=None)
    if before:
        images, where = _find_frames(chunks, range(max(0, first - before), first) if own else range(0))
        part = replace(part, before=images, before_index=where)
    if after:
        images, where = _find_frames(chunks, range(last + 1, last + 1 + after) if own else range(0))
        part = replace(part, after=images, after_index=where)
    return part


def _find_frames(chunks: ChunkBatch, wanted: range) -> tuple[Tensor, Tensor]:
    """Pixels (n, 3, H, W) of the wanted frames that a batch holds, its own or context, and where they are (n,)."""
    found = []
    for pixels, index in _frames_held(chunks):
        kept = (index >= wanted.start) & (index < wanted.stop)
        found.append((pixels.movedim(1, -1)[kept], index[kept]))  # in memory a pixel's values stay neighbours
    images, where = zip(*found)
    return torch.cat(images).movedim(-1, 1), torch.cat(where)


def _frames_held(chunks: ChunkBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels (n, 3, H, W) and indices (n,) of a batch's context before, its own frames, and its context after.

    The index of an own frame that is not valid is -1.
    """
    before_index, after_index = context_index(chunks)
    index = frame_index(chunks).masked_fill(~chunks.valid.cpu(), -1)
    own = chunks.keyframes[: len(index), None] if chunks.frames is None else chunks.frames
    if chunks.before is not None:
        yield chunks.before, before_index
    yield own.flatten(0, 1), index.flatten()
    if chunks.after is not None:
        yield chunks.after, after_index
