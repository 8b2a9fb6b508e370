"""How much each frame of a batch draws on the keyframe after its chunk, and how much on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from gsvnet.models.segmenter import ChunkBatch, frame_index, next_keyframe_index


def share_of_next(chunks: ChunkBatch) -> Tensor:
    """(B, L) float32 in 0..1, on the CPU: how much the next keyframe counts; the chunk's own counts for the rest.

    A frame counts the next keyframe by how far it is on the way there, so beyond the middle most, unless
    motion says that it shows something else (a scene cut, an I-frame of the codec's). Compared are the shares of a
    frame's cells whose motion is known: the next keyframe counts nothing where its share is 0 or less than half of the
    own one's, and all where the own one's is less than half of its. Without a next keyframe it counts nothing.
    """
    assert chunks.next_valid is not None, "a network that draws on both sides reads ChunkBatch.next_valid"
    assert chunks.motion_valid is not None, "and where motion to both keyframes is known"
    assert chunks.next_motion_valid is not None, "and where motion to both keyframes is known"
    known = [valid.flatten(2).float().mean(2) for valid in (chunks.motion_valid, chunks.next_motion_valid)]
    own, following = torch.stack(known).cpu()  # two numbers a frame
    index = frame_index(chunks)
    offsets = (index - index[:, :1]).clamp(min=0)
    length = next_keyframe_index(chunks) - index[:, 0]
    share = (offsets / length.clamp(min=1)[:, None]).clamp(max=1.0)
    share = torch.where(2 * own < following, 1.0, share)
    counts = chunks.next_valid.cpu()[:, None] & (following > 0) & (2 * following >= own)
    return torch.where(counts, share, 0.0)
