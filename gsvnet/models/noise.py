"""Chunks of noise: to measure what a network costs, and whether two of them say the same."""

from __future__ import annotations

import torch
from torch import Tensor

from gsvnet.models.segmenter import ChunkBatch, VideoSegmenter

_KNOWN = 0.9  # share of the cells whose motion is known


def draw_chunks(
    model: VideoSegmenter, *, height: int, width: int, num_chunks: int, interval: int, device: str | torch.device
) -> ChunkBatch:
    """Whole chunks of `interval` frames of random pixels, as the network needs them of a video of height x width.

    For a network that chooses its keyframes all frames are the same.

    Motion of about a cell, known in most places, the keyframe after the chunks, and all frames around them that the
    network looks at are there where it reads them. In memory a pixel's three values are neighbours, as labeling hands
    them over.
    """
    needs = model.needs(height, width)
    generator = torch.Generator().manual_seed(0)

    def pixels(*shape: int) -> Tensor:
        noise = torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=generator).to(device).movedim(-1, -3)
        return noise.float() if needs.resize == "exact" else noise

    def draw_context(count: int) -> Tensor | None:
        return pixels(count, *needs.keyframe_size) if count else None

    def draw_motion() -> tuple[Tensor | None, Tensor | None]:
        if needs.motion_grid is None:
            return None, None
        shape = num_chunks, interval, *needs.motion_grid
        motion = torch.randn(*shape[:2], 2, *shape[2:], generator=generator)
        return motion.to(device), (torch.rand(shape, generator=generator) < _KNOWN).to(device)

    frame_size = needs.frame_size or (needs.keyframe_size if interval > 1 else None)
    keyframes = pixels(num_chunks + needs.next_keyframe, *needs.keyframe_size)
    frames = pixels(num_chunks, interval, *frame_size) if frame_size else None
    next_frames = pixels(num_chunks, *frame_size) if needs.next_frame and frame_size else None
    candidates = pixels(num_chunks, interval, *needs.keyframe_size) if needs.every_keyframe else None
    if candidates is not None:  # a network that chooses keyframes takes noise for cuts: let it see a standing scene
        assert frames is not None
        assert next_frames is not None
        large, small = keyframes[0].clone(), frames[0, 0].clone()
        keyframes[:], candidates[:], frames[:], next_frames[:] = large, large, small, small
    motion, motion_valid = draw_motion()
    next_motion, next_motion_valid = draw_motion() if needs.next_keyframe else (None, None)
    before, after = draw_context(needs.before), draw_context(needs.after)
    stop = needs.before + num_chunks * interval
    return ChunkBatch(
        first_frame=needs.before,
        num_frames=torch.full((num_chunks,), interval),
        keyframes=keyframes,
        frames=frames,
        valid=torch.ones(num_chunks, interval, dtype=torch.bool),
        next_valid=torch.ones(num_chunks, dtype=torch.bool) if needs.next_keyframe or needs.next_frame else None,
        motion=motion,
        motion_valid=motion_valid,
        next_motion=next_motion,
        next_motion_valid=next_motion_valid,
        before=before,
        before_index=torch.arange(needs.before) if needs.before else None,
        after=after,
        after_index=torch.arange(stop, stop + needs.after) if needs.after else None,
        next_frames=next_frames,
        candidates=candidates,
    )
