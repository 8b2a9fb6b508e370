"""The worker: one shard in, one Parquet object out. Plain Python; Ray and local mode call the same object.

Three things run at once: a thread decodes and renders the next batches, this thread runs the networks, a small pool
makes rows of their logits. All queues are bounded, so memory does not depend on the length of a video.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsvnet.errors import AlreadyPublished, ConfigError, WorkerError
from gsvnet.labeling.batching import DecodedBatch, batch_chunks, views_by_need
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.rows import RowMaker
from gsvnet.labeling.tasks import Device, ShardResult, ShardTask
from gsvnet.models.checkpoints import content_hash
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, VideoSegmenter
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter, estimate_spool_bytes, sweep_spools
from gsvnet.video.decode import prefetch, read_frames

PREFETCHED_BATCHES = 2
BATCHES_IN_POOL = 2


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


class ShardWorker:
    """Labels shards, one per call. Holds the network on its device and a pool of threads that make rows."""

    def __init__(self, spec: LabelWorkerSpec, model: VideoSegmenter, *, device: Device, num_threads: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise WorkerError("this worker was given a GPU but sees no CUDA device")
        assert isinstance(model, nn.Module)
        torch.set_num_threads(num_threads)
        torch.backends.cudnn.benchmark = False
        self.spec, self.device, self.num_threads = spec, device, num_threads
        self.precision = resolve_precision(spec.precision, device)
        self.frames_done = 0  # of the running shard; progress reads it from another thread
        self.model_hash = content_hash(model)
        self.model = model.eval().to(device)
        # One torch thread each: the pool as a whole uses the cores, and threads of threads would fight for them.
        self._pool = ThreadPoolExecutor(
            num_threads, thread_name_prefix="gsvnet-rows", initializer=torch.set_num_threads, initargs=(1,)
        )
        _make_spool_folder(spec.spool_dir)
        sweep_spools(spec.spool_dir)

    def __call__(self, task: ShardTask) -> ShardResult:
        """Label, encode and publish one shard. Raises VideoError, StoreError, or whatever the network raises."""
        torch.set_num_threads(self.num_threads)  # of the calling thread, whichever it is
        _make_spool_folder(self.spec.spool_dir)  # again: temporary folders get cleaned up under long jobs
        self.frames_done = 0
        clock, tally, span = StageClock(), Counter[str](), _Span()
        writer = self._open_writer(task)
        published = True
        try:
            with writer:
                for row in self._rows(task, clock):
                    with clock.stage("write"):
                        writer.append(row)
                    self.frames_done += 1
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
        """Rows in frame order; a few batches are in the pool while the networks go on."""
        video = task.video
        needs = self.model.needs(video.height, video.width)
        maker = RowMaker(
            size=self.spec.mask_size or (video.height, video.width),
            time_base=video.time_base,
            num_classes=len(self.model.classes),
            clock=clock,
        )
        waiting: deque[_BatchInPool] = deque()
        try:
            with closing(prefetch(self._decode(task, needs, clock), PREFETCHED_BATCHES)) as batches:
                for batch in batches:
                    waiting.append(self._label(batch, maker))
                    if len(waiting) > BATCHES_IN_POOL:
                        yield from waiting.popleft().rows()
            while waiting:
                yield from waiting.popleft().rows()
        finally:
            for batch_in_pool in waiting:
                batch_in_pool.cancel()

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
    def _label(self, batch: DecodedBatch, maker: RowMaker) -> _BatchInPool:
        """Run the networks; what they yield goes to the pool at once."""
        places = {(place.chunk, place.position): place for place in batch.places if place.position is not None}
        lost = [maker.lost(place) for place in batch.places if place.position is None]
        futures = []
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self.model.segment(_to_device(batch.chunks, self.device))
            while (output := maker.clock.next_of("segment", outputs)) is not None:
                if output.role == "labels":
                    futures.append(self._pool.submit(maker.label, output, places))
        return _BatchInPool(lost=lost, futures=futures)


@dataclass(frozen=True, kw_only=True)
class _BatchInPool:
    """One batch whose rows are being made."""

    lost: list[FrameRow]
    futures: list[Future[list[FrameRow]]]

    def rows(self) -> list[FrameRow]:
        """All rows of the batch in frame order, when they are done."""
        rows = [row for future in self.futures for row in future.result()]
        return sorted([*rows, *self.lost], key=lambda row: row.frame_index)

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


def _make_spool_folder(folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot make the spool folder {folder}: {reason}; choose another --spool-dir") from error


def _to_device(chunks: ChunkBatch, device: Device) -> ChunkBatch:
    if device == "cpu":
        return chunks
    parts = {f.name: getattr(chunks, f.name) for f in fields(chunks)}
    moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in parts.items() if isinstance(v, Tensor)}
    return replace(chunks, **moved)


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
