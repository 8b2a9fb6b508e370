"""Motion of the frames of one chunk to its keyframe and to the next one: from the codec, or by a proxy's encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from gsvnet.models.segmenter import ChunkBatch, FrameNeeds
from gsvnet.video.decode import Frame
from gsvnet.video.motion import FrameMotion, trace_to_keyframe, trace_to_next_keyframe
from gsvnet.video.motion_field import Bools, Floats
from gsvnet.video.proxy import trace_by_proxy, trace_to_next_by_proxy


@dataclass(frozen=True, kw_only=True)
class MovingFrame(Frame):
    """A frame, and what the video's codec says of its motion."""

    motion: FrameMotion


@dataclass(frozen=True, kw_only=True)
class ChunkMotion:
    """Of N decoded frames, the keyframe first: motion (N, 2, gh, gw) in pixels of its grid, known (N, gh, gw).

    next_motion, next_known: the same to the keyframe after the chunk; None where there is none, and for a chunk that
    has nothing but its keyframe, which needs no other.
    """

    motion: Floats
    known: Bools
    next_motion: Floats | None = None
    next_known: Bools | None = None

    @property
    def reaches_next(self) -> bool:
        """Whether motion to the next keyframe is known anywhere."""
        return self.next_known is not None and bool(self.next_known.any())


Trace = Callable[[Sequence[Frame], Frame | None, FrameNeeds], ChunkMotion]
"""Called with all frames of a chunk from its keyframe on, lost ones too; with the keyframe after it, or None; and with
what the network needs. The frames hold images of `FrameNeeds.frame_size` as their last."""


def with_motion(pairs: Iterable[tuple[Frame, FrameMotion]]) -> Iterator[MovingFrame]:
    """Frames that carry their codec motion."""
    for frame, motion in pairs:
        yield MovingFrame(index=frame.index, pts=frame.pts, images=frame.images, status=frame.status, motion=motion)


def trace_by_codec(frames: Sequence[Frame], next_keyframe: Frame | None, needs: FrameNeeds) -> ChunkMotion:
    """A Trace for MovingFrames. Vectors may lead to lost frames, so all are followed, and those that came out kept."""
    assert needs.motion_grid is not None
    decoded = [n for n, frame in enumerate(frames) if not frame.is_lost]
    fields = [_field_of(frame) for frame in frames]
    motion, known = trace_to_keyframe(fields, *needs.motion_grid)
    if next_keyframe is None or len(decoded) < 2:
        return ChunkMotion(motion=motion[decoded], known=known[decoded])
    following, following_known = trace_to_next_keyframe(fields, _field_of(next_keyframe), *needs.motion_grid)
    return ChunkMotion(
        motion=motion[decoded],
        known=known[decoded],
        next_motion=following[decoded],
        next_known=following_known[decoded],
    )


def trace_by_images(frames: Sequence[Frame], next_keyframe: Frame | None, needs: FrameNeeds) -> ChunkMotion:
    """A Trace for any frames: a small encoder looks for motion between the images that the network reads of them.

    To the next keyframe it runs backwards, from that keyframe to the chunk's own.
    """
    assert needs.motion_grid is not None
    images = [_as_array(frame) for frame in frames if not frame.is_lost]
    motion, known = trace_by_proxy(images, needs.motion_grid)
    if next_keyframe is None or len(images) < 2:
        return ChunkMotion(motion=motion, known=known)
    following, following_known = trace_to_next_by_proxy(images, _as_array(next_keyframe), needs.motion_grid)
    return ChunkMotion(motion=motion, known=known, next_motion=following, next_known=following_known)


def add_motion(chunks: ChunkBatch, traced: Sequence[ChunkMotion | None], needs: FrameNeeds) -> ChunkBatch:
    """The batch with the motion of its first chunks; 0 and not known for padding and where there is None."""
    assert needs.motion_grid is not None
    shape = (*chunks.valid.shape, *needs.motion_grid)
    to_own, to_next = _Maps(shape), _Maps(shape)
    for c, chunk in enumerate(traced):
        if chunk is not None:
            to_own.put(c, chunk.motion, chunk.known)
        if chunk is not None and chunk.next_motion is not None and chunk.next_known is not None:
            to_next.put(c, chunk.next_motion, chunk.next_known)
    chunks = replace(chunks, motion=to_own.motion, motion_valid=to_own.known)
    if not needs.next_keyframe:
        return chunks
    return replace(chunks, next_motion=to_next.motion, next_motion_valid=to_next.known)


class _Maps:
    """Motion (B, L, 2, gh, gw) and where it is known, of a batch. shape: (B, L, gh, gw)."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.motion = torch.zeros(*shape[:2], 2, *shape[2:])
        self.known = torch.zeros(shape, dtype=torch.bool)

    def put(self, chunk: int, motion: Floats, known: Bools) -> None:
        self.motion[chunk, : len(motion)] = torch.from_numpy(motion)
        self.known[chunk, : len(known)] = torch.from_numpy(known)


def _field_of(frame: Frame) -> FrameMotion:
    assert isinstance(frame, MovingFrame), "codec motion is read with the frames"
    return frame.motion


def _as_array(frame: Frame) -> np.ndarray:
    """The smallest image of a frame, (h, w, 3) uint8 in the CPU's memory."""
    image = torch.as_tensor(frame.images[-1]).cpu()
    if image.is_floating_point():
        image = image.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(image.numpy())
