"""From decoded frames to ChunkBatches: which size each frame is read at, and where it sits in its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from gsvnet.chunks import Shard, planned_keyframe
from gsvnet.errors import ModelError
from gsvnet.labeling.chunk_motion import ChunkMotion, Trace, add_motion, trace_by_images
from gsvnet.labeling.clock import Seconds, timing
from gsvnet.labeling.stretches import Stretch, cut_stretches
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds
from gsvnet.video.decode import Frame
from gsvnet.video.frames import View


@dataclass(frozen=True, kw_only=True)
class FramePlace:
    """Where one frame of the video sits in a batch. keyframe: index in the video of the keyframe that it follows.

    chunk, position: its place in the ChunkBatch; position None: the frame was lost, there is nothing to segment.
    damaged: its picture is damaged, or one that its labels draw on.
    grey: (h, w) uint8, what flow to the frames beside it is found in; None where nobody asks for flow.
    """

    index: int
    pts: int
    keyframe: int
    chunk: int
    position: int | None
    damaged: bool = False
    grey: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class DecodedBatch:
    """Consecutive frames in display order and the ChunkBatch that holds their pixels. tracing: what its motion took."""

    places: tuple[FramePlace, ...]
    chunks: ChunkBatch
    tracing: Seconds = field(default_factory=Seconds)


def views_by_need(shard: Shard, *, interval: int, needs: FrameNeeds) -> Callable[[int], Sequence[View]]:
    """What to render of frame i when it comes out of the decoder, called in display order.

    The first decodable frame of a chunk is its keyframe: normally the planned one, else the one that takes its place.
    Around the shard that is context, and at its planned end, where that is read, the next shard's keyframe; of frames
    further before it nothing. Of a frame that is read at both sizes, the keyframe's comes first.
    """
    refuse_unknown_needs(needs)
    keyframe_view = View(*needs.keyframe_size, needs.resize)
    frame_view = View(*(needs.frame_size or needs.keyframe_size), needs.resize)
    stop = None if shard.end_pts is None else shard.first_frame + shard.num_frames
    current: int | None = None

    def views(index: int) -> Sequence[View]:
        nonlocal current
        if index < shard.first_frame:
            return () if index < shard.first_frame - needs.before else (keyframe_view,)
        chunk = index if index == stop else planned_keyframe(shard, index, interval)
        is_keyframe, current = chunk != current, chunk
        is_large = is_keyframe or needs.every_keyframe
        return (keyframe_view, frame_view) if is_large and needs.frame_size else (frame_view,)

    return views


def refuse_unknown_needs(needs: FrameNeeds) -> None:
    """Raises ModelError for needs that labeling does not serve."""
    if (needs.before or needs.after) and needs.frame_size is not None:
        raise ModelError(
            f"the model reads its own frames at {needs.frame_size} and wants frames around its chunks at "
            f"{needs.keyframe_size}, which labeling does not serve: a frame may be both"
        )
    if needs.every_keyframe and needs.frame_size is None:
        raise ModelError(
            f"the model wants every frame at {needs.keyframe_size} to choose keyframes, and no other size of it; "
            "a network that reads all frames in full has FrameNeeds.every_keyframe False"
        )


def batch_chunks(
    frames: Iterable[Frame],
    *,
    shard: Shard,
    interval: int,
    needs: FrameNeeds,
    num_chunks: int,
    trace: Trace = trace_by_images,
    label_following: bool = False,
) -> Iterator[DecodedBatch]:
    """Groups decoded frames into batches of exactly `num_chunks` chunks; the last one is padded with empty chunks.

    Batches always have the same shape, so a frame's labels do not depend on its neighbours in the batch. Frames around
    the shard are not labeled: they are context, and the first one after it, where it is read, is the keyframe that
    follows the last chunk. A planned keyframe that was lost, or where a chunk starts out of turn, is nobody's next one.
    trace: finds motion, where `needs.motion_grid` asks for it. label_following: the keyframe that follows the last
    chunk is one more chunk, of that frame alone.
    """
    batcher = _Batcher(
        interval=interval, needs=needs, num_chunks=num_chunks, trace=trace, restarts=frozenset(shard.restarts)
    )
    stretches = cut_stretches(
        frames,
        shard=shard,
        interval=interval,
        num_chunks=num_chunks,
        before=needs.before,
        after=needs.after,
        label_following=label_following,
    )
    yield from map(batcher.assemble, stretches)  # a loop would hold one stretch more


@dataclass(frozen=True, kw_only=True)
class _Batcher:
    """Makes batches of one shape; the fields are arguments of `batch_chunks`. restarts: the shard's."""

    interval: int
    needs: FrameNeeds
    num_chunks: int
    trace: Trace
    restarts: frozenset[int]

    @property
    def _looks_ahead(self) -> bool:
        return self.needs.next_keyframe or self.needs.next_frame

    def assemble(self, stretch: Stretch) -> DecodedBatch:
        """The batch of a stretch of frames."""
        chunks = stretch.chunks
        next_keyframes = self._find_next_keyframes(chunks, stretch.following)
        with timing() as tracing:
            traced = [self._trace_chunk(frames, k) for frames, k in zip(chunks, next_keyframes)]
        # a keyframe to which no motion leads (an I-frame, where the codec is asked) is as good as none
        if self.needs.next_keyframe:
            next_keyframes = [k if t is None or t.reaches_next else None for k, t in zip(next_keyframes, traced)]
        valid, pixels = self._collect_frames(chunks)
        keyframes = self._collect_keyframes(chunks, next_keyframes[-1], pixels)
        before, before_index = self._collect_context(stretch.before, self.needs.before, like=pixels)
        after, after_index = self._collect_context(stretch.after, self.needs.after, like=pixels)
        batch = ChunkBatch(
            first_frame=chunks[0][0].index,
            num_frames=valid.sum(1),
            keyframes=_to_channels_first(keyframes),
            frames=_to_channels_first(pixels),
            valid=valid,
            next_valid=self._mark_next(next_keyframes),
            index=self._number_frames(chunks, valid),
            next_index=self._number_next(next_keyframes),
            before=before,
            before_index=before_index,
            after=after,
            after_index=after_index,
            next_frames=self._collect_next(next_keyframes, pixels),
            candidates=self._collect_candidates(chunks, pixels),
        )
        if self.needs.motion_grid is not None:
            batch = add_motion(batch, traced, self.needs)
        return DecodedBatch(places=_places(stretch, self.needs), chunks=batch, tracing=tracing)

    def _find_next_keyframes(self, chunks: list[list[Frame]], following: Frame | None) -> list[Frame | None]:
        """The planned keyframe after each chunk. None where there is none, it was lost, or a chunk starts there out of
        turn, and where nobody asks for it.
        """
        if not self._looks_ahead:
            return [None] * len(chunks)
        firsts = [*(frames[0] for frames in chunks[1:]), following]
        return [
            first if first is not None and self._may_follow(first) and _decoded(frames) else None
            for frames, first in zip(chunks, firsts)
        ]

    def _may_follow(self, keyframe: Frame) -> bool:
        return keyframe.status == "ok" and keyframe.index not in self.restarts

    def _mark_next(self, next_keyframes: Sequence[Frame | None]) -> Tensor | None:
        if not self._looks_ahead:
            return None
        marks = torch.zeros(self.num_chunks, dtype=torch.bool)
        marks[: len(next_keyframes)] = torch.tensor([keyframe is not None for keyframe in next_keyframes])
        return marks

    def _number_frames(self, chunks: list[list[Frame]], valid: Tensor) -> Tensor:
        """(num_chunks, L): where in the video each frame is; 0 where none is."""
        index = torch.zeros_like(valid, dtype=torch.int64)
        for c, frames in enumerate(map(_decoded, chunks)):
            index[c, : len(frames)] = torch.tensor([frame.index for frame in frames], dtype=torch.int64)
        return index

    def _number_next(self, next_keyframes: Sequence[Frame | None]) -> Tensor | None:
        """(num_chunks,): where in the video each chunk's next keyframe is; 0 where there is none."""
        if not self._looks_ahead:
            return None
        index = torch.zeros(self.num_chunks, dtype=torch.int64)
        for c, keyframe in enumerate(next_keyframes):
            if keyframe is not None:
                index[c] = keyframe.index
        return index

    def _trace_chunk(self, frames: list[Frame], next_keyframe: Frame | None) -> ChunkMotion | None:
        """Motion of a chunk's decoded frames; None where it is not wanted or there are none."""
        first = next((n for n, frame in enumerate(frames) if not frame.is_lost), None)
        if self.needs.motion_grid is None or first is None:
            return None
        return self.trace(frames[first:], next_keyframe if self.needs.next_keyframe else None, self.needs)

    def _collect_frames(self, chunks: list[list[Frame]]) -> tuple[Tensor, Tensor]:
        """valid (num_chunks, L) bool, and pixels of all frames (num_chunks, L, h, w, 3), where the images lie."""
        height, width = self.needs.frame_size or self.needs.keyframe_size
        pixels = self._make_room((self.num_chunks, self.interval, height, width, 3), chunks)
        valid = torch.zeros(self.num_chunks, self.interval, dtype=torch.bool)
        for c, frames in enumerate(chunks):
            decoded = _decoded(frames)
            for p, frame in enumerate(decoded):
                pixels[c, p] = torch.as_tensor(frame.images[-1])
            valid[c, : len(decoded)] = True
        pixels[~valid.to(pixels.device)] = 0
        return valid, pixels

    def _collect_keyframes(self, chunks: list[list[Frame]], last: Frame | None, pixels: Tensor) -> Tensor:
        """Pixels of keyframes (num_chunks, H, W, 3), and with `needs.next_keyframe` one more: `last`."""
        if self.needs.frame_size is None and not self.needs.next_keyframe:
            return pixels[:, 0]
        num_keyframes = self.num_chunks + self.needs.next_keyframe
        keyframes = self._make_room((num_keyframes, *self.needs.keyframe_size, 3), chunks)
        used = torch.zeros(num_keyframes, dtype=torch.bool)
        own = [next(iter(_decoded(frames)), None) for frames in chunks]
        for c, keyframe in enumerate([*own, last] if self.needs.next_keyframe else own):
            if keyframe is not None:
                keyframes[c], used[c] = torch.as_tensor(keyframe.images[0]), True
        keyframes[~used.to(keyframes.device)] = 0
        return keyframes

    def _collect_next(self, next_keyframes: Sequence[Frame | None], like: Tensor) -> Tensor | None:
        """Pixels (num_chunks, 3, h, w) of the keyframe after each chunk, as small as other frames; None: not wanted.

        like: pixels of the batch's frames.
        """
        if not self.needs.next_frame:
            return None
        pixels = like.new_zeros((self.num_chunks, *like.shape[2:]))
        for c, keyframe in enumerate(next_keyframes):
            if keyframe is not None:
                pixels[c] = torch.as_tensor(keyframe.images[-1])
        return _to_channels_first(pixels)

    def _collect_candidates(self, chunks: list[list[Frame]], like: Tensor) -> Tensor | None:
        """Pixels (num_chunks, L, 3, H, W) of all frames as large as keyframes; None: not wanted. like: as above."""
        if not self.needs.every_keyframe:
            return None
        pixels = like.new_zeros((self.num_chunks, self.interval, *self.needs.keyframe_size, 3))
        for c, frames in enumerate(chunks):
            for p, frame in enumerate(_decoded(frames)):
                pixels[c, p] = torch.as_tensor(frame.images[0])
        return _to_channels_first(pixels)

    def _collect_context(
        self, frames: Sequence[Frame], wanted: int, *, like: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Pixels (n, 3, H, W) of the context frames that came out of the decoder, and where in the video they are (n,).

        None where none are wanted. like: a tensor of their kind, in the place where they go.
        """
        if not wanted:
            return None, None
        decoded = _decoded(frames)
        pixels = torch.empty((len(decoded), *self.needs.keyframe_size, 3), dtype=like.dtype, device=like.device)
        for n, frame in enumerate(decoded):
            pixels[n] = torch.as_tensor(frame.images[0])
        index = torch.tensor([frame.index for frame in decoded], dtype=torch.int64)
        return _to_channels_first(pixels), index

    def _make_room(self, shape: tuple[int, ...], chunks: list[list[Frame]]) -> Tensor:
        """A tensor for images, where those lie. Its content is arbitrary: filling it with zeros first costs as much as
        the copies.
        """
        images = (frame.images[-1] for frames in chunks for frame in frames if frame.images)
        device = next((image.device for image in images), "cpu")
        dtype = torch.float32 if self.needs.resize == "exact" else torch.uint8
        return torch.empty(shape, dtype=dtype, device=device)


def _places(stretch: Stretch, needs: FrameNeeds) -> tuple[FramePlace, ...]:
    around = chain(stretch.before, *stretch.chunks, stretch.after)
    damaged = [frame.index for frame in around if frame.status == "damaged"]
    places = []
    for c, frames in enumerate(stretch.chunks):
        decoded = _decoded(frames)
        position = {frame.index: p for p, frame in enumerate(decoded)}
        keyframe = decoded[0].index if decoded else frames[0].index
        for f in frames:
            first = keyframe if needs.basis == "keyframe" else f.index - needs.before  # that its labels draw on
            places.append(
                FramePlace(
                    index=f.index,
                    pts=f.pts,
                    keyframe=keyframe,
                    chunk=c,
                    position=position.get(f.index),
                    damaged=any(first <= index <= f.index + needs.after for index in damaged),
                )
            )
    return tuple(places)


def _decoded(frames: Sequence[Frame]) -> list[Frame]:
    return [frame for frame in frames if not frame.is_lost]


def _to_channels_first(pixels: Tensor) -> Tensor:
    """(..., h, w, 3) -> (..., 3, h, w) view; the memory stays channels-last, which convolutions like."""
    return pixels.movedim(-1, -3)
