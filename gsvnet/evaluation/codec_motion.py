"""Codec motion for images that were encoded as a video: what a network gets that asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gsvnet.chunks import Chunk
from gsvnet.errors import ConfigError
from gsvnet.evaluation.clip_motion import stack_traced
from gsvnet.evaluation.dataset import Clip, ScoredClips
from gsvnet.uris import redact_uri
from gsvnet.video.index import index_video
from gsvnet.video.motion import read_motion, trace_to_keyframe, trace_to_next_keyframe
from gsvnet.video.motion_source import choose_motion_source
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
    motion = tuple(read_motion(uri, rotation=info.rotation, max_distance=_references_distance(uri)))
    if len(motion) != len(clip.frames):
        raise ConfigError(f"{info.uri} has {len(motion)} frames; {data.split} has {len(clip.frames)} images")
    return replace(data, clips=(replace(clip, motion=motion),))


def _references_distance(uri: str) -> int:
    """How many frames away labeling looks for the codec's references."""
    index = index_video(uri)
    sync_frames, num_frames = index.sync_frames.tolist(), len(index.pts)
    choice = choose_motion_source(uri, interval=1, sync_frames=sync_frames, num_frames=num_frames, wanted="codec")
    return choice.max_distance


def trace_chunks(clip: Clip, chunks: Sequence[Chunk], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Motion (B, L, 2, h, w) to each chunk's keyframe, in pixels of a grid of `size`, and where known.

    L: of the longest chunk; zero and unknown past the end of a shorter one.
    """
    assert clip.motion is not None, clip.name
    frames = [clip.motion[chunk.first_frame : chunk.first_frame + chunk.num_frames] for chunk in chunks]
    return stack_traced([trace_to_keyframe(chunk, *size) for chunk in frames], max(map(len, frames)), size)


def trace_chunks_to_next(
    clip: Clip, chunks: Sequence[Chunk], followers: Sequence[int | None], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The same to the keyframe that follows each chunk, whose frame index is given; unknown where there is none."""
    assert clip.motion is not None, clip.name
    traced = [
        None
        if follower is None
        else trace_to_next_keyframe(clip.motion[chunk.first_frame : follower], clip.motion[follower], *size)
        for chunk, follower in zip(chunks, followers)
    ]
    return stack_traced(traced, max(chunk.num_frames for chunk in chunks), size)
