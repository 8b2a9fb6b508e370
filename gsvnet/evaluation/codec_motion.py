"""Codec motion for images that were encoded as a video: what a network gets that asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gsvnet.chunks import Chunk
from gsvnet.errors import ConfigError
from gsvnet.evaluation.dataset import Clip, ScoredClips
from gsvnet.uris import redact_uri
from gsvnet.video.motion import read_motion, trace_to_keyframe
from gsvnet.video.probe import probe_video


def attach_motion(data: ScoredClips, uri: str) -> ScoredClips:
    """The same clips with the codec motion of a video whose frame i shows image i of the only clip.

    Raises ConfigError for several clips and where number or size of the frames differ, and VideoError as reading does.
    """
    if len(data.clips) != 1 or data.step_ms is None:
        raise ConfigError(f"{redact_uri(uri)}: {data.dataset} {data.split} is no single clip that a video could show")
    clip, info = data.clips[0], probe_video(uri)
    height, width = clip.frames[0].read_image().shape[:2]
    if (info.height, info.width) != (height, width):
        raise ConfigError(
            f"{info.uri}: frames of {info.height}x{info.width}; the images of {data.split} have {height}x{width}"
        )
    motion = tuple(read_motion(uri, rotation=info.rotation))
    if len(motion) != len(clip.frames):
        raise ConfigError(f"{info.uri} has {len(motion)} frames; {data.split} has {len(clip.frames)} images")
    return replace(data, clips=(replace(clip, motion=motion),))


def trace_chunks(clip: Clip, chunks: Sequence[Chunk], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Motion (B, L, 2, h, w) to each chunk's keyframe, in pixels of a grid of `size`, and where known.

    L: of the longest chunk; zero and unknown past the end of a shorter one.
    """
    assert clip.motion is not None, clip.name
    length = max(chunk.num_frames for chunk in chunks)
    motion = np.zeros((len(chunks), length, 2, *size), np.float32)
    known = np.zeros((len(chunks), length, *size), bool)
    for row, chunk in enumerate(chunks):
        frames = clip.motion[chunk.first_frame : chunk.first_frame + chunk.num_frames]
        motion[row, : chunk.num_frames], known[row, : chunk.num_frames] = trace_to_keyframe(frames, *size)
    return torch.from_numpy(motion), torch.from_numpy(known)
