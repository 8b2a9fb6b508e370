"""The worker: one shard in, one Parquet object out. Plain Python; Ray and local mode call the same object.

Three things run at once: a thread decodes and renders the next batches, this thread runs the networks, a small pool
encodes masks. All queues are bounded, so memory does not depend on the length of a video.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.chunks import Video
from gsvnet.errors import AlreadyPublished, WorkerError
from gsvnet.labeling.batching import DecodedBatch, FramePlace, batch_chunks, views_by_need
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.tasks import Device, ShardResult, ShardTask
from gsvnet.models.checkpoints import content_hash
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, VideoSegmenter
from gsvnet.nn.confidence import frame_confidence
from gsvnet.nn.upsample import upsample_labels
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter, estimate_spool_bytes, sweep_spools
from gsvnet.video.decode import prefetch, read_frames

PREFETCHED_BATCHES = 2
BATCHES_IN_ENCODING = 2


@dataclass(frozen=True, kw_only=True)
class LabelWorkerSpec:
    """All that a worker needs to know of its job, except the weights.

    precision: "auto" is bf16 on CUDA, fp32 on a CPU. mask_size: (height, width) of stored masks in pixels; None: the
    video's own. storage_options: for the output; video_options: for the videos.
    """

    out: str
    spool_dir: str
    keyframe_interval: int
    batch_chunks: int
    precision: str
    fingerprint: str
    mask_size: tuple[int, int] | None = None
    unsafe_commit: bool = False
    storage_options: dict | None = field(default=None, repr=False)
    video_options: dict | None = field(default=None, repr=False)

    def build(self, weights: VideoSegmenter, *, device: Device, num_threads: int) -> ShardWorker:
        """A worker around `weights`, the network itself."""
        return ShardWorker(self, weights, device=device, num_threads=num_threads)


def resolve_precision(precision: str, device: str) -> str:
    """ "fp32" or "bf16"."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" else "fp32"


@dataclass(frozen=True)
class LabeledFrame:
    """What the networks say of one frame: labels (H, W) uint8, confidences in 0..1."""

    labels: np.ndarray
    confidence: float
    confidence_p05: float


class ShardWorker:
    """Labels shards, one per call. Holds the network on its device and a pool of encoder threads."""

    def __init__(self, spec: LabelWorkerSpec, model: VideoSegmenter, *, device: Device, num_threads: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise WorkerError("this worker was given a GPU but sees no CUDA device")
        assert isinstance(model, nn.Module)
        torch.set_num_threads(num_threads)
        torch.backends.cudnn.benchmark = False
        self.spec, self.device, self.num_threads = spec, device, num_threads
        self.precision = resolve_precision(spec.precision, device)
        self.model_hash = content_hash(model)
        self.model = model.eval().to(device)
        self._encoders = ThreadPoolExecutor(num_threads, thread_name_prefix="encode")
        Path(spec.spool_dir).mkdir(parents=True, exist_ok=True)
        sweep_spools(spec.spool_dir)

    def __call__(self, task: ShardTask) -> ShardResult:
        """Label, encode and publish one shard. Raises VideoError, StoreError, or whatever the network raises."""
        torch.set_num_threads(self.num_threads)  # of the calling thread, whichever it is
        clock, tally, span = StageClock(), Counter[str](), _Span()
        writer = self._open_writer(task)
        published = True
        try:
            with writer:
                for row in self._rows(task, clock):
                    with clock.stage("write"):
                        writer.append(row)
                    tally.update(frames=1, lost=row.status != "ok", keyframes=row.is_keyframe)
                    span.add(row.time_s)
        except AlreadyPublished:
            published = False
        return ShardResult(
            video_id=task.video.id,
            shard_index=task.shard.index,
            num_frames=tally["frames"],
            num_lost=tally["lost"],
            num_keyframes=tally["keyframes"],
            num_bytes=writer.published.num_bytes if writer.published else 0,
            media_s=span.length_s,
            seconds=clock.read(),
            published=published,
        )

    def _open_writer(self, task: ShardTask) -> ShardWriter:
        video, shard = task.video, task.shard
        height, width = self.spec.mask_size or (video.height, video.width)
        footer = ShardFooter(
            job=self.spec.fingerprint,
            video=video.id,
            uri=video.uri,
            identity=video.identity,
            time_base=str(video.time_base),
            shard=shard.index,
            first_frame=shard.first_frame,
            model_hash=self.model_hash,
            classes=self.model.classes,
            precision=self.precision,
            device=self.device,
            threads=self.num_threads,
        )
        return ShardWriter(
            shard_uri(self.spec.out, video.id, shard.name),
            footer=footer,
            spool_dir=self.spec.spool_dir,
            needed_bytes=estimate_spool_bytes(shard.num_frames, height, width),
            expected_rows=shard.num_frames if shard.end_pts is not None else None,
            storage_options=self.spec.storage_options,
            unsafe_commit=self.spec.unsafe_commit,
        )

    def _rows(self, task: ShardTask, clock: StageClock) -> Iterator[FrameRow]:
        """Rows in frame order; a few batches are in the encoder pool while the networks go on."""
        needs = self.model.needs(task.video.height, task.video.width)
        waiting: deque[list[Future[FrameRow]]] = deque()
        try:
            with closing(prefetch(self._decode(task, needs, clock), PREFETCHED_BATCHES)) as batches:
                for batch in batches:
                    labeled = self._segment(batch.chunks, task.video, clock)
                    waiting.append([self._submit(place, labeled, task.video, clock) for place in batch.places])
                    if len(waiting) > BATCHES_IN_ENCODING:
                        yield from (row.result() for row in waiting.popleft())
            while waiting:
                yield from (row.result() for row in waiting.popleft())
        finally:
            for future in (future for rows in waiting for future in rows):
                future.cancel()

    def _decode(self, task: ShardTask, needs: FrameNeeds, clock: StageClock) -> Iterator[DecodedBatch]:
        shard, interval = task.shard, self.spec.keyframe_interval
        frames = read_frames(
            task.uri,
            first_frame=shard.first_frame,
            start_pts=shard.start_pts,
            end_pts=shard.end_pts,
            views=views_by_need(shard, interval=interval, needs=needs),
            rotation=task.video.rotation,
            threads=self.num_threads,
            storage_options=self.spec.video_options,
        )
        batches = batch_chunks(frames, shard=shard, interval=interval, needs=needs, num_chunks=self.spec.batch_chunks)
        return clock.timed("decode", batches)

    @torch.inference_mode()
    def _segment(self, chunks: ChunkBatch, video: Video, clock: StageClock) -> dict[tuple[int, int], LabeledFrame]:
        """Labels of every valid frame by (chunk, position)."""
        size = self.spec.mask_size or (video.height, video.width)
        labeled: dict[tuple[int, int], LabeledFrame] = {}
        chunks = _to_device(chunks, self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self.model.segment(chunks)
            while (output := clock.next_of("segment", outputs)) is not None:
                if output.role != "labels":
                    continue
                with clock.stage("upsample"):
                    labels = upsample_labels(output.logits, size, align_corners=output.align_corners).cpu().numpy()
                    mean, p05 = (x.tolist() for x in frame_confidence(output.logits, output.gain))
                for n, key in enumerate(zip(output.chunk.tolist(), output.position.tolist())):
                    labeled[key] = LabeledFrame(labels[n], mean[n], p05[n])
        return labeled

    def _submit(
        self, place: FramePlace, labeled: dict[tuple[int, int], LabeledFrame], video: Video, clock: StageClock
    ) -> Future[FrameRow]:
        frame = None if place.position is None else labeled[place.chunk, place.position]
        size = self.spec.mask_size or (video.height, video.width)
        return self._encoders.submit(_encode_row, place, frame, size, video.time_base, len(self.model.classes), clock)


def _encode_row(
    place: FramePlace,
    frame: LabeledFrame | None,
    size: tuple[int, int],
    time_base: Fraction,
    num_classes: int,
    clock: StageClock,
) -> FrameRow:
    """One row; a lost frame (None) keeps its place, without labels."""
    with clock.stage("encode"):
        return FrameRow(
            frame_index=place.index,
            pts=place.pts,
            time_s=float(place.pts * time_base),
            is_keyframe=frame is not None and place.index == place.keyframe,
            keyframe_distance=None if frame is None else place.index - place.keyframe,
            height=size[0],
            width=size[1],
            status="decode_error" if frame is None else "ok",
            pixels=None if frame is None else pixel_counts(frame.labels, num_classes),
            confidence=None if frame is None else frame.confidence,
            confidence_p05=None if frame is None else frame.confidence_p05,
            mask=None if frame is None else encode_mask(frame.labels),
        )


def _to_device(chunks: ChunkBatch, device: Device) -> ChunkBatch:
    if device == "cpu":
        return chunks
    parts = {f.name: getattr(chunks, f.name) for f in fields(chunks)}
    return ChunkBatch(**{k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in parts.items()})


@dataclass
class _Span:
    """Length of a run of frames in seconds of video; the last frame counts as long as the mean one."""

    first_s: float | None = None
    last_s: float = 0.0
    num_frames: int = 0

    def add(self, time_s: float) -> None:
        self.first_s = time_s if self.first_s is None else self.first_s
        self.last_s = time_s
        self.num_frames += 1

    @property
    def length_s(self) -> float:
        if self.first_s is None or self.num_frames < 2:
            return 0.0
        return (self.last_s - self.first_s) * self.num_frames / (self.num_frames - 1)
