"""A network run over a clip of images, chunk by chunk, as labeling would run it over a video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gsvnet.choices import MotionSource
from gsvnet.chunks import Chunk, chunk_starts
from gsvnet.classes import ClassSet, merge_table
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.clip_motion import stack_traced, trace_images, trace_images_to_next
from gsvnet.evaluation.codec_motion import trace_chunks, trace_chunks_to_next
from gsvnet.evaluation.dataset import Clip
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.prepared import Precision, compute_in
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, VideoSegmenter
from gsvnet.nn.upsample import upsample_labels

Place = tuple[int, int]

_FRAMES_PER_CONTEXT = 6


class ClipLabeler:
    """Labels chunks of a clip, which may overlap. Images are read when needed and the last few are kept.

    interval: the keyframe that follows a chunk is the frame so many behind its first one, if the clip has it; for
    networks that read the next keyframe a chunk then has to have all `interval` frames. Motion is that of the clip's
    video where there is one, else of an encoder run over the chunk's own images. Frames around a batch, for networks
    that look at them, are the clip's, as far as it has any; stills have none around them. relabel: (256,) uint8 from
    the network's class ids to the truth's (`find_relabeling`); None where they are the same. first_index: where in its
    video the clip begins.
    """

    def __init__(
        self,
        clip: Clip,
        segmenter: VideoSegmenter,
        *,
        interval: int,
        relabel: np.ndarray | None = None,
        device: str = "cpu",
        bf16: bool = False,
        kept_frames: int = 16,
        first_index: int = 0,
    ) -> None:
        self.clip, self.segmenter, self.relabel, self.device, self.bf16 = clip, segmenter, relabel, device, bf16
        self.interval, self.first_index = interval, first_index
        self.size: tuple[int, int] = clip.frames[0].read_image().shape[:2]
        self.needs = segmenter.needs(*self.size)
        self._pixels = lru_cache(maxsize=kept_frames)(self._read_pixels)
        self.truth = lru_cache(maxsize=kept_frames)(lambda index: clip.frames[index].read_truth(self.size))

    @property
    def motion_source(self) -> MotionSource | None:
        """Where the network's motion comes from; None where it reads none."""
        if self.needs.motion_grid is None:
            return None
        return "proxy" if self.clip.motion is None else "codec"

    @torch.inference_mode()
    def label(self, chunks: Sequence[Chunk], wanted: AbstractSet[Place] | None = None) -> dict[Place, np.ndarray]:
        """Labels (H, W) uint8 at the images' size by (chunk, position), of all frames of the chunks or those wanted.

        For a network that reads next keyframes they are one batch as far as each begins an interval behind the one
        before it; for one that looks at frames around the batch, as far as each begins where the one before it ends.
        Raises ModelError where the network leaves out a frame.
        """
        labels: dict[Place, np.ndarray] = {}
        for first, stop in self.cut_batches(chunks):
            found = self._label_batch(chunks[first:stop], wanted and {(c - first, p) for c, p in wanted})
            labels |= {(first + chunk, position): ids for (chunk, position), ids in found.items()}
        return labels

    def outputs(self, chunks: Sequence[Chunk]) -> Iterator[tuple[list[Chunk], LogitsBatch, ChunkBatch]]:
        """What the network yields of the chunks' labels, in batches as `label` makes them; each with its batch."""
        for first, stop in self.cut_batches(chunks):
            batch = self.assemble(chunks[first:stop])
            for output in self.run(batch):
                if output.role == "labels":
                    yield list(chunks[first:stop]), output, batch

    def cut_batches(self, chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
        """[first, stop) of the chunks that may stand in one ChunkBatch."""
        cuts = [i for i, (a, b) in enumerate(pairwise(chunks), start=1) if not self._belong_together(a, b)]
        return list(pairwise([0, *cuts, len(chunks)]))

    def _belong_together(self, chunk: Chunk, following: Chunk) -> bool:
        distance = following.first_frame - chunk.first_frame
        if self.needs.next_keyframe and distance != self.interval:
            return False
        return not self._looks_around or (distance == chunk.num_frames and not self.clip.stills)

    @property
    def _looks_around(self) -> bool:
        return bool(self.needs.before or self.needs.after)

    def _label_batch(self, chunks: Sequence[Chunk], wanted: AbstractSet[Place] | None) -> dict[Place, np.ndarray]:
        batch = self.assemble(chunks)
        expected = {(chunk, position) for chunk, position in batch.valid.nonzero().tolist()}
        labels: dict[Place, np.ndarray] = {}
        seen = set()
        for output in self.run(batch):
            if output.role != "labels":
                continue
            places = places_of(output)
            seen |= set(places)
            kept = [n for n, place in enumerate(places) if wanted is None or place in wanted]
            if kept:
                labels |= zip([places[n] for n in kept], self.enlarge(output, kept))
        if seen != expected:
            raise ModelError(f"the model left out frames of a batch, (chunk, position): {expected - seen}")
        return labels

    @torch.inference_mode()
    def enlarge(self, output: LogitsBatch, rows: Sequence[int]) -> np.ndarray:
        """Labels (N, H, W) uint8 at the images' size of some frames of what the network yields, in the truth's ids."""
        logits = output.logits[list(rows)]
        maps = upsample_labels(logits, self.size, align_corners=output.align_corners).cpu().numpy()
        return maps if self.relabel is None else self.relabel[maps]

    def segment(self, chunks: Sequence[Chunk]) -> Iterator[tuple[int, LogitsBatch]]:
        """All that the network yields of the chunks, arrivals too, and which of them each batch begins with."""
        for first, stop in self.cut_batches(chunks):
            for output in self.run(self.assemble(chunks[first:stop])):
                yield first, output

    def run(self, batch: ChunkBatch) -> Iterator[LogitsBatch]:
        """What the network yields of a batch; only the network runs in bf16."""
        precision: Precision = "bf16" if self.bf16 else "fp32"
        return compute_in(self.device, precision, iter(self.segmenter.segment(batch)))

    def assemble(self, chunks: Sequence[Chunk]) -> ChunkBatch:
        """Chunks at one length; what lies past the end of a short one repeats its last frame."""
        starts = torch.tensor([chunk.first_frame for chunk in chunks])
        lengths = torch.tensor([chunk.num_frames for chunk in chunks])
        position = torch.arange(int(lengths.max()))
        index = starts[:, None] + position.minimum(lengths[:, None] - 1)
        keyframes = torch.stack([self._pixels(s)[0] for s in starts.tolist()])
        frames = torch.stack([self._pixels(s)[1] for s in index.flatten().tolist()]).unflatten(0, index.shape)
        batch = ChunkBatch(
            first_frame=self.first_index + chunks[0].first_frame,
            num_frames=lengths,
            keyframes=keyframes.to(self.device),
            frames=frames.to(self.device),
            valid=position < lengths[:, None],
            index=self.first_index + index,
        )
        if self._looks_around:
            batch = self._add_frames_around(batch, chunks)
        if self.needs.motion_grid is not None:
            motion, known = self._trace(chunks, frames, self.needs.motion_grid)
            batch = replace(batch, motion=motion.to(self.device), motion_valid=known.to(self.device))
        if self.needs.every_keyframe:
            candidates = torch.stack([self._pixels(s)[0] for s in index.flatten().tolist()]).unflatten(0, index.shape)
            batch = replace(batch, candidates=candidates.to(self.device))
        if self.needs.next_keyframe or self.needs.next_frame:
            return self._add_next_keyframe(batch, chunks, frames)
        return batch

    def _add_frames_around(self, batch: ChunkBatch, chunks: Sequence[Chunk]) -> ChunkBatch:
        """The batch with the frames before its first chunk and after its last one."""
        start, stop = chunks[0].first_frame, chunks[-1].first_frame + chunks[-1].num_frames
        before = range(max(0, start - self.needs.before), start)
        after = range(stop, min(stop + self.needs.after, len(self.clip.frames)))
        if self.clip.stills:
            before, after = range(0), range(0)
        return replace(
            batch,
            before=self._keyframes_at(before, batch.keyframes),
            before_index=self.first_index + torch.tensor(before, dtype=torch.long),
            after=self._keyframes_at(after, batch.keyframes),
            after_index=self.first_index + torch.tensor(after, dtype=torch.long),
        )

    def _keyframes_at(self, indices: range, like: Tensor) -> Tensor:
        """Frames as keyframes (n, 3, H, W), on the device of the batch's own."""
        return torch.stack([self._pixels(i)[0] for i in indices]).to(like) if indices else like[:0]

    def _trace(self, chunks: Sequence[Chunk], frames: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Motion of each frame to its chunk's keyframe. frames: (B, L, 3, h, w)."""
        if self.clip.motion is not None:
            return trace_chunks(self.clip, chunks, grid)
        traced = [trace_images(list(images[: chunk.num_frames]), grid) for chunk, images in zip(chunks, frames)]
        return stack_traced(traced, frames.shape[1], grid)

    def _add_next_keyframe(self, batch: ChunkBatch, chunks: Sequence[Chunk], frames: Tensor) -> ChunkBatch:
        """The batch with the keyframe that follows each chunk. frames: (B, L, 3, h, w)."""
        followers = [self._follower(chunk) for chunk in chunks]
        there = torch.tensor([follower is not None for follower in followers])
        # what is not valid is an image all the same
        following = [c.first_frame if follower is None else follower for c, follower in zip(chunks, followers)]
        batch = replace(batch, next_valid=there, next_index=self.first_index + torch.tensor(following))
        if self.needs.next_keyframe:
            last = self._pixels(following[-1])[0][None].to(self.device)
            batch = replace(batch, keyframes=torch.cat([batch.keyframes, last]))
        if self.needs.next_frame:
            next_frames = torch.stack([self._pixels(index)[1] for index in following])
            batch = replace(batch, next_frames=next_frames.to(self.device))
        if self.needs.motion_grid is None or not self.needs.next_keyframe:
            return batch
        motion, known = self._trace_to_next(chunks, frames, followers, self.needs.motion_grid)
        return replace(
            batch,
            next_motion=motion.to(self.device),
            next_motion_valid=known.to(self.device),
            # as in labeling, a keyframe to which no motion leads (an I-frame of the codec's) is as good as none
            next_valid=there & known.flatten(1).any(1),
        )

    def _trace_to_next(
        self, chunks: Sequence[Chunk], frames: Tensor, followers: Sequence[int | None], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        if self.clip.motion is not None:
            return trace_chunks_to_next(self.clip, chunks, followers, grid)
        traced = [
            None if follower is None else trace_images_to_next(list(images), self._pixels(follower)[1], grid)
            for images, follower in zip(frames, followers)
        ]
        return stack_traced(traced, frames.shape[1], grid)

    def _follower(self, chunk: Chunk) -> int | None:
        """Index of the keyframe after a chunk, None where the clip ends before it."""
        index = chunk.first_frame + self.interval
        if index >= len(self.clip.frames):
            return None
        assert chunk.num_frames == self.interval, f"{chunk} ends before the next keyframe, frame {index}"
        return index

    def _read_pixels(self, index: int) -> tuple[Tensor, Tensor]:
        """A frame as the network reads it, as a keyframe (3, H, W) and on the way (3, h, w)."""
        image = self.clip.frames[index].read_image()
        if image.shape[:2] != self.size:
            raise ConfigError(f"{self.clip.frames[index].image}: size {image.shape[:2]}; the first has {self.size}")
        pixels, needs = torch.from_numpy(image).permute(2, 0, 1), self.needs
        keyframe = resize_image(pixels, needs.keyframe_size, needs.resize)
        return keyframe, resize_image(pixels, needs.frame_size, needs.resize) if needs.frame_size else keyframe


def places_of(output: LogitsBatch, first: int = 0) -> list[Place]:
    """(chunk, position) of every frame in `output`, chunks counted from `first` on."""
    return [(first + chunk, position) for chunk, position in zip(output.chunk.tolist(), output.position.tolist())]


def label_frames(
    clip: Clip,
    segmenter: VideoSegmenter,
    *,
    interval: int,
    relabel: np.ndarray | None = None,
    device: str = "cpu",
    bf16: bool = False,
    batch_chunks: int = 4,
) -> Iterator[np.ndarray]:
    """Labels (H, W) uint8 of every frame in display order; from frame 0 on every interval-th is a keyframe."""
    labeler = ClipLabeler(clip, segmenter, interval=interval, relabel=relabel, device=device, bf16=bf16)
    batch_chunks = enlarge_batch(labeler.needs, interval, batch_chunks)
    starts = chunk_starts(0, len(clip.frames), interval)
    chunks = [Chunk(first_frame=s, num_frames=min(interval, len(clip.frames) - s)) for s in starts]
    for first in range(0, len(chunks), batch_chunks):
        labels = labeler.label(chunks[first : first + batch_chunks])
        yield from (labels[place] for place in sorted(labels))


def enlarge_batch(needs: FrameNeeds, interval: int, batch_chunks: int) -> int:
    """Chunks of `interval` frames at a time: at least `batch_chunks`, and so many that frames around them are few.

    They run again for every batch: at most one in seven of the frames that run.
    """
    return max(batch_chunks, math.ceil(_FRAMES_PER_CONTEXT * (needs.before + needs.after) / interval))


def find_relabeling(classes: ClassSet, wanted: ClassSet) -> np.ndarray | None:
    """Lookup (256,) uint8 from labels in a network's classes to those wanted; None where they are the same.

    Raises ModelError unless the classes are equal or merge into all that are wanted, as Cityscapes' into CamVid's do.
    """
    if classes.identifiers == wanted.identifiers:
        return None
    try:
        table = merge_table(classes, wanted)
    except ConfigError:
        table = np.empty(0, np.uint8)
    if set(table[: len(classes)]) != set(range(len(wanted))):
        raise ModelError(
            f"the model has the classes {', '.join(classes.identifiers)}; the truth has {', '.join(wanted.identifiers)}"
        )
    return table
