"""Chunks of noise: to measure what a network costs, and whether two of them say the same."""

from __future__ import annotations

import torch
from torch import Tensor

from gsvnet.errors import ModelError
from gsvnet.models.segmenter import ChunkBatch, VideoSegmenter


def draw_chunks(
    model: VideoSegmenter, *, height: int, width: int, num_chunks: int, interval: int, device: str | torch.device
) -> ChunkBatch:
    """Whole chunks of `interval` frames of random pixels, as the network needs them of a video of height x width.

    In memory a pixel's three values are neighbours, as labeling hands them over.

    Raises ModelError for needs beyond the chunk itself.
    """
    needs = model.needs(height, width)
    if needs.motion_grid or needs.before or needs.after or needs.next_keyframe:
        raise ModelError(
            f"{type(model).__name__} needs motion or frames outside the chunk ({needs}); noise is drawn for networks "
            "that read one chunk at a time"
        )
    generator = torch.Generator().manual_seed(0)

    def pixels(*shape: int) -> Tensor:
        noise = torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=generator).to(device).movedim(-1, -3)
        return noise.float() if needs.resize == "exact" else noise

    frame_size = needs.frame_size or (needs.keyframe_size if interval > 1 else None)
    return ChunkBatch(
        first_frame=0,
        num_frames=torch.full((num_chunks,), interval),
        keyframes=pixels(num_chunks, *needs.keyframe_size),
        frames=pixels(num_chunks, interval, *frame_size) if frame_size else None,
        valid=torch.ones(num_chunks, interval, dtype=torch.bool),
    )
