"""From decoded frames to ChunkBatches: which size each frame is read at, and where it sits in its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvnet.chunks import Shard, planned_keyframe
from gsvnet.errors import ModelError
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds
from gsvnet.video.decode import Frame
from gsvnet.video.frames import View


@dataclass(frozen=True, kw_only=True)
class FramePlace:
    """Where one frame of the video sits in a batch. keyframe: index in the video of the keyframe that it follows.

    chunk, position: its place in the ChunkBatch; position None: the frame was lost, there is nothing to segment.
    """

    index: int
    pts: int
    keyframe: int
    chunk: int
    position: int | None


@dataclass(frozen=True, kw_only=True)
class DecodedBatch:
    """Consecutive frames in display order and the ChunkBatch that holds their pixels."""

    places: tuple[FramePlace, ...]
    chunks: ChunkBatch


def views_by_need(shard: Shard, *, interval: int, needs: FrameNeeds) -> Callable[[int], Sequence[View]]:
    """What to render of frame i when it comes out of the decoder, called in display order.

    The first decodable frame of a chunk is its keyframe: normally the planned one, else the one that takes its place.
    """
    refuse_unknown_needs(needs)
    keyframe_view = View(*needs.keyframe_size, needs.resize)
    frame_view = View(*(needs.frame_size or needs.keyframe_size), needs.resize)
    current: int | None = None

    def views(index: int) -> Sequence[View]:
        nonlocal current
        chunk = planned_keyframe(shard, index, interval)
        is_keyframe, current = chunk != current, chunk
        return (keyframe_view, frame_view) if is_keyframe and needs.frame_size else (frame_view,)

    return views


def refuse_unknown_needs(needs: FrameNeeds) -> None:
    """Raises ModelError for needs that labeling does not serve."""
    if needs.motion_grid or needs.before or needs.after or needs.next_keyframe:
        raise ModelError(f"the model needs more than the frames of its chunks, which labeling does not serve: {needs}")


def batch_chunks(
    frames: Iterable[Frame], *, shard: Shard, interval: int, needs: FrameNeeds, num_chunks: int
) -> Iterator[DecodedBatch]:
    """Groups decoded frames into batches of exactly `num_chunks` chunks; the last one is padded with empty chunks.

    Batches always have the same shape, so a frame's labels do not depend on its neighbours in the batch.
    """
    pending: list[list[Frame]] = []
    current: int | None = None
    for frame in frames:
        chunk = planned_keyframe(shard, frame.index, interval)
        if chunk != current:
            if len(pending) == num_chunks:
                yield _assemble(pending, interval=interval, needs=needs, num_chunks=num_chunks)
                pending = []
            pending.append([])
            current = chunk
        pending[-1].append(frame)
    if pending:
        yield _assemble(pending, interval=interval, needs=needs, num_chunks=num_chunks)


def _assemble(chunks: list[list[Frame]], *, interval: int, needs: FrameNeeds, num_chunks: int) -> DecodedBatch:
    pixels, keyframes = _make_room(chunks, interval=interval, needs=needs, num_chunks=num_chunks)
    valid = torch.zeros(num_chunks, interval, dtype=torch.bool)
    places = []
    for c, frames in enumerate(chunks):
        decoded = [f for f in frames if f.status == "ok"]
        if decoded and needs.frame_size:
            keyframes[c] = torch.as_tensor(decoded[0].images[0])
        for p, frame in enumerate(decoded):
            pixels[c, p] = torch.as_tensor(frame.images[-1])
        valid[c, : len(decoded)] = True
        position = {frame.index: p for p, frame in enumerate(decoded)}
        keyframe = decoded[0].index if decoded else frames[0].index
        places += [
            FramePlace(index=f.index, pts=f.pts, keyframe=keyframe, chunk=c, position=position.get(f.index))
            for f in frames
        ]
    pixels[~valid.to(pixels.device)] = 0
    if needs.frame_size:
        keyframes[~valid[:, 0].to(pixels.device)] = 0
    batch = ChunkBatch(
        first_frame=chunks[0][0].index,
        num_frames=valid.sum(1),
        keyframes=_to_channels_first(keyframes),
        frames=_to_channels_first(pixels),
        valid=valid,
    )
    return DecodedBatch(places=tuple(places), chunks=batch)


def _make_room(
    chunks: list[list[Frame]], *, interval: int, needs: FrameNeeds, num_chunks: int
) -> tuple[Tensor, Tensor]:
    """Pixels of all frames (num_chunks, L, h, w, 3) and of keyframes (num_chunks, H, W, 3), where the images lie.

    Their content is arbitrary: filling it with zeros first costs as much as the copies.
    """
    images = (frame.images[-1] for frames in chunks for frame in frames if frame.images)
    device = next((image.device for image in images), "cpu")
    dtype = torch.float32 if needs.resize == "exact" else torch.uint8
    height, width = needs.frame_size or needs.keyframe_size
    pixels = torch.empty((num_chunks, interval, height, width, 3), dtype=dtype, device=device)
    if needs.frame_size is None:
        return pixels, pixels[:, 0]
    return pixels, torch.empty((num_chunks, *needs.keyframe_size, 3), dtype=dtype, device=device)


def _to_channels_first(pixels: Tensor) -> Tensor:
    """(..., h, w, 3) -> (..., 3, h, w) view; the memory stays channels-last, which convolutions like."""
    return pixels.movedim(-1, -3)
