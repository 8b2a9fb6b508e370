"""The worker: one shard in, one Parquet object out. Plain Python; Ray and local mode call the same object.

Three things run at once: a thread decodes and renders the next batches (`ahead.py`), a small pool runs the networks and
makes rows of their logits (`pipeline.py`; beside a GPU this thread drives the networks), and this thread writes. All
queues are bounded, so memory does not depend on the length of a video.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Literal, TypeVar

import torch

from gsvnet.errors import AlreadyPublished, StoreRefused, WorkerError
from gsvnet.labeling.ahead import ReadAhead
from gsvnet.labeling.backoff import BackOff
from gsvnet.labeling.batching import DecodedBatch, batch_chunks
from gsvnet.labeling.clock import StageClock, Timed, timed_decoding
from gsvnet.labeling.device import pin, to_device
from gsvnet.labeling.drift import DriftMaker, join_drift
from gsvnet.labeling.memory import lanes_that_fit
from gsvnet.labeling.pipeline import Lanes, Maker, RowPool
from gsvnet.labeling.precision import advise_precision, resolve_precision
from gsvnet.labeling.rows import LabeledFrame, RowMaker
from gsvnet.labeling.shard_frames import choose_trace, motion_source, read_shard
from gsvnet.labeling.sight import Probe, check_sight
from gsvnet.labeling.smoothing import FrameLabeler, GreyImages, smooth_rows, widened_task
from gsvnet.labeling.tally import Tally, already_labeled
from gsvnet.labeling.tasks import Device, ShardResult, ShardTask
from gsvnet.models.calibration import calibration_of
from gsvnet.models.content_hash import content_hash
from gsvnet.models.contract import runs_in_threads
from gsvnet.models.prepared import compute_in, prepare_for_inference
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, VideoSegmenter
from gsvnet.process import return_freed_memory
from gsvnet.store.filesystem import has_object
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter, estimate_spool_bytes, make_spool_dir, sweep_spools
from gsvnet.video.flow import load_opencv
from gsvnet.video.frames import View
from gsvnet.video.nvdec import DecoderChoice, choose_decoder
from gsvnet.video.smoothing import flow_size

BATCHES_AHEAD = 2
_Item = TypeVar("_Item", FrameRow, LabeledFrame)


@dataclass(frozen=True, kw_only=True)
class LabelWorkerSpec:
    """All that a worker needs to know of its job, except the weights.

    precision: "auto" is bf16 on CUDA, fp32 on a CPU. compiled: networks run through torch.compile. mask_size: (height,
    width) of stored masks in pixels; None: the video's own. smooth: over how many frames on either side labels are
    smoothed. drift: measure how far chunks agree with the keyframes after them, where the network can tell.
    min_agreement: how many do not agree so far is counted. uncertain: also keep where ways to the labels of a frame
    differ. storage_options: for the output; video_options: for the videos. sight: what an actor must see before it
    works.
    """

    out: str
    spool_dir: str
    keyframe_interval: int
    batch_chunks: int
    precision: str
    fingerprint: str
    decoder: Literal["auto", "cpu", "nvdec"] = "cpu"
    compiled: bool = False
    mask_size: tuple[int, int] | None = None
    smooth: int = 0
    drift: bool = False
    min_agreement: float | None = None
    uncertain: bool = False
    unsafe_commit: bool = False
    storage_options: dict | None = field(default=None, repr=False)
    video_options: dict | None = field(default=None, repr=False)
    sight: Probe | None = None

    def build(self, weights: VideoSegmenter, *, device: Device, num_threads: int) -> ShardWorker:
        """A worker around `weights`, the network itself. Raises WorkerError where output or videos are out of sight."""
        if self.sight is not None:
            check_sight(self.sight)
        return ShardWorker(self, weights, device=device, num_threads=num_threads)


def decoder_threads(num_threads: int, device: str) -> int:
    """Threads of a video decoder in an actor of `num_threads`: all beside a GPU, half where networks use the cores too.

    Each further thread costs cycles (5 to 10 % more per frame) and helps only where decoding holds the networks up.
    """
    return num_threads if device == "cuda" else max(1, num_threads // 2)


class ShardWorker:
    """Labels shards, one per call. Holds the network on its device and the threads of its pipeline."""

    def __init__(self, spec: LabelWorkerSpec, model: VideoSegmenter, *, device: Device, num_threads: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise WorkerError("this worker was given a GPU but sees no CUDA device")
        torch.set_num_threads(num_threads)
        torch.backends.cudnn.benchmark = False
        if spec.smooth:
            load_opencv("smooth").setNumThreads(1)  # the pipeline's threads find flow side by side
        self.spec, self.device, self.num_threads = spec, device, num_threads
        self.precision = resolve_precision(spec.precision, device)
        self.notes = advise_precision(spec.precision, device)
        self.frames_done = 0  # of the running shard; progress reads it from another thread
        self.model_hash = content_hash(model)  # type: ignore[arg-type]
        self.model = prepare_for_inference(model, device=device, precision=self.precision, compiled=spec.compiled)
        self._choose_decoder = lru_cache(maxsize=8)(self._find_decoder)  # by video: choosing opens the file
        self._back_off = BackOff()
        self._ahead = ReadAhead(self._decode, BATCHES_AHEAD)
        side_by_side = device == "cpu" and runs_in_threads(self.model)
        self.pipeline = Lanes(num_threads) if side_by_side else RowPool(num_threads, device)
        make_spool_dir(spec.spool_dir)
        sweep_spools(spec.spool_dir)

    def prepare(self, task: ShardTask) -> None:
        """Say which shard is called for after the running one (or after the next call): its first batches are decoded
        as soon as nothing else is. A hint: the call may come for another shard. Any thread may say it.
        """
        self._ahead.prepare(task)

    def close(self) -> None:
        """Stop decoding for a call that will not come. After the last call."""
        self._ahead.close()
        self.pipeline.close()

    def __call__(self, task: ShardTask) -> ShardResult:
        """Label, encode and publish one shard. Raises VideoError, StoreError, or whatever the network raises."""
        torch.set_num_threads(self.num_threads)  # of the calling thread, whichever it is
        return_freed_memory()  # the last shard's, also where it failed
        make_spool_dir(self.spec.spool_dir)  # again: temporary folders get cleaned up under long jobs
        self.frames_done = 0
        clock = StageClock()
        tally = Tally(video_id=task.video.id, min_agreement=self.spec.min_agreement)
        if self._is_labeled(task):
            return already_labeled(task, clock)
        self._choose_lanes(task)
        writer = self._open_writer(task)
        published = True
        try:
            with ExitStack() as stack:
                stack.enter_context(writer)
                for row in self._rows(task, clock):
                    with clock.stage("write"):
                        writer.append(row)
                    tally.add(row)
                    self.frames_done = tally.num_frames
                writer.footer = replace(writer.footer, backed_off_to=self._back_off.most_chunks)
                with clock.stage("write"):
                    stack.close()  # closes, checks and publishes
        except AlreadyPublished:
            published = False
        return ShardResult(
            video_id=task.video.id,
            shard_index=task.shard.index,
            num_frames=tally.num_frames,
            num_lost=tally.num_lost,
            num_keyframes=tally.num_keyframes,
            num_bytes=writer.published.num_bytes if writer.published else 0,
            media_s=tally.media_s,
            seconds=clock.wall(),
            core_seconds=clock.cores(),
            published=published,
            drift=tally.drift,
            num_damaged=tally.num_damaged,
            notes=(*self._back_off.take_notes(), *self._decoder_notes(task)),
        )

    def _is_labeled(self, task: ShardTask) -> bool:
        """Whether another run on the same output was first; asked before the work, so that two runs share it."""
        try:
            return has_object(shard_uri(self.spec.out, task.video.id, task.shard.name), self.spec.storage_options)
        except StoreRefused:  # may write but not look: publishing will tell
            return False

    def _needs(self, task: ShardTask) -> FrameNeeds:
        return self.model.needs(task.video.height, task.video.width)

    def _choose_lanes(self, task: ShardTask) -> None:
        if self.device != "cpu":  # where memory that is short is told by an error
            return
        lanes = self.pipeline if isinstance(self.pipeline, Lanes) else None
        fit = lanes_that_fit(
            self.model,
            height=task.video.height,
            width=task.video.width,
            interval=self.spec.keyframe_interval,
            num_chunks=self.spec.batch_chunks,
            num_lanes=1 if lanes is None else lanes.num_lanes,
        )
        if lanes is not None:
            lanes.at_once = fit

    def _decoder_notes(self, task: ShardTask) -> list[str]:
        reason = self._decoder_of(task).reason
        return [f"decoded on the CPU: {reason}"] if reason and task.shard.index == 0 else []

    def _decoder_of(self, task: ShardTask) -> DecoderChoice:
        if motion_source(task, self._needs(task)) != "codec":
            return self._choose_decoder(task.uri)
        asked = self.spec.decoder != "cpu"
        return DecoderChoice(name="cpu", reason="its motion is the codec's, which NVDEC does not give" if asked else "")

    def _find_decoder(self, uri: str) -> DecoderChoice:
        return choose_decoder(self.spec.decoder, uri, device=self.device, storage_options=self.spec.video_options)

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
            decoder=self._decoder_of(task).name,
            motion=motion_source(task, self._needs(task)),
            smooth=self.spec.smooth or None,
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
        """Rows in frame order; a few batches are in the pipeline at a time."""
        video, needs = task.video, self._needs(task)
        maker = RowMaker(
            size=self.spec.mask_size or (video.height, video.width),
            time_base=video.time_base,
            num_classes=len(self.model.classes),
            clock=clock,
            interval=self.spec.keyframe_interval,
            basis=needs.basis,
            calibration=calibration_of(self.model),
            uncertain=self.spec.uncertain,
        )
        with closing(self._ahead.items(task)) as timed:
            batches = (_count(clock, batch) for batch in timed)
            if not self.spec.smooth:
                yield from self._label(batches, maker, needs, end_pts=task.shard.end_pts)
                return
            with closing(self._label(batches, FrameLabeler(maker=maker), needs)) as frames:
                yield from smooth_rows(
                    frames, shard=task.shard, reach=self.spec.smooth, maker=maker, submit=self.pipeline.submit
                )

    def _label(
        self, batches: Iterable[DecodedBatch], maker: Maker[_Item], needs: FrameNeeds, *, end_pts: int | None = None
    ) -> Generator[_Item, None, None]:
        """What `maker` makes of all frames in order, up to end_pts; with drift, where that is measured."""
        segment = partial(self._segment, needs=needs)
        if not self._measures_drift(needs):
            yield from self.pipeline.rows(batches, segment, maker)
            return
        num_classes = len(self.model.classes)
        drift_maker = DriftMaker(maker=maker, grid=needs.frame_size or needs.keyframe_size, num_classes=num_classes)
        with closing(self.pipeline.rows(batches, segment, drift_maker)) as items:
            yield from join_drift(items, num_classes=num_classes, clock=maker.clock, end_pts=end_pts)

    def _measures_drift(self, needs: FrameNeeds) -> bool:
        return self.spec.drift and needs.next_frame

    def _labels_following(self, needs: FrameNeeds) -> bool:
        """Whether drift of a shard's last chunk is told by the labels of the keyframe behind it: not where a network
        that draws on that keyframe compares both sides of its frames.
        """
        return self._measures_drift(needs) and (needs.every_keyframe or not needs.next_keyframe)

    def _decode(self, task: ShardTask) -> Iterator[Timed[DecodedBatch]]:
        needs, interval = self._needs(task), self.spec.keyframe_interval
        greys = GreyImages() if self.spec.smooth else None
        if greys is not None:
            task = widened_task(task)
        frames = read_shard(
            task,
            needs=needs,
            interval=interval,
            decoder=self._decoder_of(task).name,
            threads=decoder_threads(self.num_threads, self.device),
            storage_options=self.spec.video_options,
            first_view=None if greys is None else View(*flow_size(task.video.height, task.video.width)),
        )
        batches = batch_chunks(
            frames if greys is None else greys.take(frames, task.shard),
            shard=task.shard,
            interval=interval,
            needs=needs,
            num_chunks=self.spec.batch_chunks,
            trace=choose_trace(task, needs),
            label_following=self._labels_following(needs) and greys is None,  # a widened shard has what follows
        )
        if greys is not None:
            batches = map(greys.give, batches)
        if self.device == "cuda":
            batches = (replace(batch, chunks=pin(batch.chunks)) for batch in batches)
        return timed_decoding(batches)

    def _segment(self, batch: DecodedBatch, *, needs: FrameNeeds) -> Iterator[LogitsBatch]:
        """Run the networks on one batch, in parts where it does not fit into memory."""

        def run(chunks: ChunkBatch) -> Iterator[LogitsBatch]:
            return self.model.segment(to_device(chunks, self.device))

        outputs = self._back_off.segment(batch.chunks, run, before=needs.before, after=needs.after)
        return compute_in(self.device, self.precision, outputs)


def _count(clock: StageClock, timed: Timed[DecodedBatch]) -> DecodedBatch:
    """The batch, after what it took was added to stage "decode"; what of that went into motion is told beside it."""
    if timed.item.chunks.motion is not None:
        clock.add("motion", timed.item.tracing)
    return clock.count("decode", timed)
