"""Chunks of labelled clips, labeled at every start with what their drift and their true loss are found from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gsvnet.chunks import Chunk
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.clip import ClipLabeler, Place, find_relabeling, places_of
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.dataset import ScoredClips
from gsvnet.evaluation.drift import ChunkDrift, DriftResult
from gsvnet.evaluation.scores import chain_chunks
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch, VideoSegmenter
from gsvnet.models.transfer import with_drift
from gsvnet.nn.agreement import Comparison, compare_maps
from gsvnet.nn.best_class import best_class
from gsvnet.nn.blocks import resize

Progress = Callable[[int, int], None]

_FRAMES_AT_ONCE = 8


def measure_drift(
    segmenter: VideoSegmenter,
    data: ScoredClips,
    *,
    interval: int,
    every: int = 1,
    batch_chunks: int = 4,
    device: str = "cpu",
    bf16: bool = False,
    progress: Progress | None = None,
) -> DriftResult:
    """Drift and loss of chunks of `interval` frames with a keyframe after them, at every `every`-th start.

    segmenter: on `device` in evaluation mode. data: clips with every frame labelled. progress: called with frames and
    chunks done and in all. Raises ConfigError for clips without such a chunk, ModelError for networks that do not tell
    drift.
    """
    model, relabel = with_drift(segmenter), find_relabeling(segmenter.classes, data.classes)
    needs = model.needs(*data.clips[0].frames[0].read_image().shape[:2])
    _check(segmenter, data, needs, interval)
    starts = [range(0, len(clip.frames) - interval, every) for clip in data.clips]
    total = sum(len(clip.frames) for clip in data.clips) + sum(map(len, starts))
    report = _Count(progress=progress, total=total)
    found: list[ChunkDrift] = []
    for clip, firsts in zip(data.clips, starts):
        as_keyframes, in_chunks = (
            ClipLabeler(
                clip,
                network,
                interval=every,
                relabel=relabel,
                device=device,
                bf16=bf16,
                kept_frames=batch_chunks * interval + 1,
            )
            for network, every in ((segmenter, 1), (model, interval))
        )
        assert needs.frame_size is not None
        keyframes = [*report.through(_label_keyframes(as_keyframes, needs.frame_size, len(data.classes)))]
        chunks = report.through(_label_chunks(in_chunks, keyframes, firsts, batch_chunks))
        found += sorted(chunks, key=lambda chunk: chunk.first_frame)
    return DriftResult(
        dataset=data.dataset,
        split=data.split,
        keyframe_interval=interval,
        references="both" if needs.next_keyframe else "before",
        chunks=tuple(found),
        notes=data.notes,
    )


def _check(segmenter: VideoSegmenter, data: ScoredClips, needs: FrameNeeds, interval: int) -> None:
    if interval < 2:
        raise ConfigError(f"keyframe interval {interval}: drift is of frames between keyframes; at least 2")
    if not needs.next_frame or needs.frame_size is None:
        raise ModelError(f"{type(segmenter).__name__} tells no drift; GSVNet does")
    for clip in data.clips:
        if len(clip.frames) <= interval:
            raise ConfigError(
                f"clip {clip.name} has {len(clip.frames)} frames; a chunk of {interval} and the next keyframe take more"
            )
        if any(frame.labels is None for frame in clip.frames):
            raise ConfigError(f"clip {clip.name}: drift is compared with truth on every frame, some have none")


@dataclass(kw_only=True)
class _Count:
    """Tells how many things went through it."""

    progress: Progress | None
    total: int
    done: int = 0

    def through(self, things: Iterator) -> Iterator:
        """The things, each counted when it comes."""
        for thing in things:
            self.done += 1
            if self.progress:
                self.progress(self.done, self.total)
            yield thing


@dataclass(frozen=True, kw_only=True)
class _Keyframe:
    """A frame labeled as a keyframe. on_grid: (h, w), labels: (H, W) in the truth's ids, uint8; matrix: with truth."""

    on_grid: np.ndarray
    labels: np.ndarray
    matrix: ConfusionMatrix


def _label_keyframes(labeler: ClipLabeler, grid: tuple[int, int], num_classes: int) -> Iterator[_Keyframe]:
    """Every frame of the clip."""
    num_frames = len(labeler.clip.frames)
    for start in range(0, num_frames, _FRAMES_AT_ONCE):
        numbers = range(start, min(start + _FRAMES_AT_ONCE, num_frames))
        frames: dict[int, _Keyframe] = {}
        for first, output in labeler.segment([Chunk(first_frame=number, num_frames=1) for number in numbers]):
            places, maps = places_of(output, first), labeler.enlarge(output, range(len(output.chunk)))
            for (chunk, _), labels, on_grid in zip(places, maps, _label_grid(output, grid)):
                matrix = _score(labeler.truth(start + chunk), labels, num_classes)
                frames[chunk] = _Keyframe(on_grid=on_grid, labels=labels, matrix=matrix)
        yield from (frames[chunk] for chunk in range(len(numbers)))


def _label_chunks(
    labeler: ClipLabeler, keyframes: Sequence[_Keyframe], starts: Sequence[int], batch_chunks: int
) -> Iterator[ChunkDrift]:
    """The chunks from these frames on."""
    interval = labeler.interval
    chunks = chain_chunks([Chunk(first_frame=start, num_frames=interval) for start in starts], interval)
    for begin in range(0, len(chunks), batch_chunks):
        batch = chunks[begin : begin + batch_chunks]
        drift: dict[int, Comparison] = {}
        labels: dict[Place, np.ndarray] = {}
        for first, output in labeler.segment(batch):
            following = [batch[first + chunk].first_frame + interval for chunk in output.chunk.tolist()]
            met = _compare(output, [keyframes[frame].on_grid for frame in following])
            for (number, _), comparison in zip(places_of(output, first), met):
                drift[number] = comparison + drift[number] if number in drift else comparison
            if output.role == "labels":
                labels |= zip(places_of(output, first), labeler.enlarge(output, range(len(output.chunk))))
        for number, chunk in enumerate(batch):
            maps = [labels[number, position] for position in range(1, interval)]
            yield _judge(labeler, chunk, maps, keyframes[chunk.first_frame + 1 :], drift[number])


def _compare(output: LogitsBatch, following: Sequence[np.ndarray]) -> list[Comparison]:
    """How labels that meet agree, of every frame in `output`; empty where none meet.

    following: labels (h, w) uint8 of the keyframe after each frame's chunk.
    """
    if output.role == "arrival":
        pairs = list(zip(_label_grid(output, following[0].shape), following))
    elif output.sides is not None:
        pairs = [(before, behind) for before, behind in output.sides.cpu().numpy()]
    else:
        return []
    found = [compare_maps(*pair, num_classes=output.logits.shape[1]) for pair in pairs]
    return [comparison for comparison in found if comparison is not None]  # a network labels every place


def _judge(
    labeler: ClipLabeler, chunk: Chunk, maps: Sequence[np.ndarray], keyframes: Sequence[_Keyframe], drift: Comparison
) -> ChunkDrift:
    """A chunk beside the truth. maps, keyframes: of its frames from position 1 on."""
    num_classes = keyframes[0].matrix.num_classes
    farthest = (labeler.interval // 2 if labeler.needs.next_keyframe else labeler.interval - 1) - 1
    truths = [labeler.truth(chunk.first_frame + 1 + number) for number in range(len(maps))]
    same = compare_maps(maps[farthest], keyframes[farthest].labels, num_classes)
    assert same is not None, "a network labels every place"
    return ChunkDrift(
        clip=labeler.clip.name,
        first_frame=chunk.first_frame,
        drift=drift,
        same_frame=same,
        as_keyframes=tuple(keyframe.matrix for keyframe in keyframes[: len(maps)]),
        labeled=tuple(_score(truth, labels, num_classes) for truth, labels in zip(truths, maps)),
        farthest=farthest,
    )


def _score(truth: np.ndarray, labels: np.ndarray, num_classes: int) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(truth, labels)
    return matrix


@torch.inference_mode()
def _label_grid(output: LogitsBatch, grid: Sequence[int]) -> np.ndarray:
    """(N, h, w) uint8: labels of the frames in `output` on a grid (h, w)."""
    return best_class(resize(output.logits.float(), grid, align_corners=output.align_corners)).cpu().numpy()
