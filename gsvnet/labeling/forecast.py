"""What a job will take: a few seconds labeled by a real worker, carried over to all frames.

A worker's speed depends on the size of the frames (decoding, encoding) and hardly on what they show, so each of the
most common sizes is measured by itself. Frames come from where they lie; labels go to a temporary folder.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from gsvnet.errors import VideoError
from gsvnet.labeling.calibrate import Calibration, default_cpu_chunks, measure_batch_chunks
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.ledger import shard_tasks
from gsvnet.labeling.network import plan_rule
from gsvnet.labeling.plan import plan_video
from gsvnet.labeling.precision import resolve_precision
from gsvnet.labeling.survey import Size, SizeCount
from gsvnet.labeling.tasks import Device, ShardTask
from gsvnet.labeling.worker import LabelWorkerSpec, ShardWorker
from gsvnet.labeling.workplace import worker_spec
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.store.job import JobRecord, read_settled
from gsvnet.store.layout import labels_uri

NUM_SIZES = 3
MEASURE_S = 8.0  # per size
SAMPLE_FRAMES: dict[Device, int] = {"cpu": 60, "cuda": 1200}  # a few seconds of a worker


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a worker is to measure; picklable. samples: a short shard of each size.

    calibration: measure the batch size first, as a job would; None: as the spec says.
    """

    spec: LabelWorkerSpec
    samples: tuple[ShardTask, ...]
    num_threads: int
    calibration: Calibration | None = None


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One actor labeling frames of (height, width) pixels. warm_up_s: labeling the sample once, before that."""

    height: int
    width: int
    num_frames: int
    seconds: float
    label_bytes: int
    warm_up_s: float = 0.0

    @property
    def frames_per_s(self) -> float:
        """Frames labeled per second."""
        return self.num_frames / self.seconds


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What all frames will take. speeds: measured, of one actor. start_s: until an actor has begun.

    work_s: actor-seconds of labeling, without starts. frames_like_others: of sizes that were not measured.
    """

    device: Device
    precision: str
    num_actors: int
    gpus_per_actor: float
    cpus_per_actor: int
    speeds: tuple[Speed, ...]
    start_s: float
    work_s: float
    label_bytes: int
    frames_like_others: int = 0

    @property
    def wall_s(self) -> float:
        """Seconds from the first actor's start to the end, if all actors are there and none is lost."""
        return self.start_s + self.work_s / self.num_actors

    @property
    def actor_hours(self) -> float:
        """Hours that actors are up."""
        return self.num_actors * self.wall_s / 3600

    @property
    def gpu_hours(self) -> float:
        """GPUs that actors reserve, times hours."""
        return self.actor_hours * self.gpus_per_actor

    @property
    def core_hours(self) -> float:
        """CPU cores that actors reserve, times hours."""
        return self.actor_hours * self.cpus_per_actor


def make_trial(
    config: LabelConfig,
    sizes: Mapping[Size, SizeCount],
    model: VideoSegmenter,
    *,
    device: Device,
    gpu_share: float = 1.0,
) -> Trial:
    """What to measure for these videos. Raises VideoError where no sample can be read any more."""
    settled = read_settled(config.out, device, config.storage_options) if config.out else None
    usual = default_cpu_chunks(model, config.keyframe_interval)
    batch_chunks = usual if config.batch_chunks == "auto" else config.batch_chunks
    if config.batch_chunks == "auto" and settled is not None:
        batch_chunks = int(settled["batch_chunks"])
    samples = tuple(_samples(config, sizes, model, _sample_frames(config, device, batch_chunks)))
    calibration = None
    if config.batch_chunks == "auto" and settled is None and device == "cuda":
        calibration = Calibration(
            height=samples[0].video.height,
            width=samples[0].video.width,
            keyframe_interval=config.keyframe_interval,
            precision=resolve_precision(config.precision, device),
            gpu_share=gpu_share,
        )
    nowhere = replace(config, out="", storage_options={}, unsafe_commit=False)
    spec = worker_spec(nowhere, JobRecord(fields={}, fingerprint=64 * "0"), batch_chunks=batch_chunks)
    return Trial(spec=spec, samples=samples, num_threads=config.cpus_per_actor, calibration=calibration)


def measure_speeds(trial: Trial, model: VideoSegmenter, device: Device) -> list[Speed]:
    """One speed per sample, measured here and now, after each sample has run once."""
    spec = trial.spec
    if trial.calibration is not None:
        spec = replace(spec, batch_chunks=measure_batch_chunks(model, trial.calibration))
    with tempfile.TemporaryDirectory(prefix="gsvnet-forecast-") as folder:
        worker = replace(spec, out=folder).build(model, device=device, num_threads=trial.num_threads)
        with closing(worker):
            return _measure_all(worker, trial.samples, folder)


def forecast(
    speeds: Sequence[Speed],
    sizes: Mapping[Size, SizeCount],
    *,
    config: LabelConfig,
    device: Device,
    num_actors: int,
    gpus_per_actor: float,
    start_s: float,
) -> Forecast:
    """What all frames of `sizes` take at these speeds; at least one is needed.

    A size that was not measured counts as the measured one next to it in pixels; larger ones take longer in proportion.
    """
    work_s = label_bytes = 0.0
    others = 0
    for (height, width), count in sizes.items():
        like = min(speeds, key=lambda speed: abs(speed.height * speed.width - height * width))
        growth = max(1.0, height * width / (like.height * like.width))
        others += 0 if (height, width) == (like.height, like.width) else count.frames
        work_s += count.frames / like.frames_per_s * growth
        label_bytes += count.frames * like.label_bytes / like.num_frames * growth
    num_shards = sum(count.shards for count in sizes.values())
    return Forecast(
        device=device,
        precision=resolve_precision(config.precision, device),
        num_actors=max(1, min(num_actors, num_shards)),
        gpus_per_actor=gpus_per_actor,
        cpus_per_actor=config.cpus_per_actor,
        speeds=tuple(speeds),
        start_s=start_s,
        work_s=work_s,
        label_bytes=round(label_bytes),
        frames_like_others=others,
    )


def _sample_frames(config: LabelConfig, device: Device, batch_chunks: int) -> int:
    """On a CPU enough for two batches per thread: with less, threads wait that would not in a shard."""
    batches = 2 * config.cpus_per_actor if device == "cpu" else 0
    return max(SAMPLE_FRAMES[device], batches * batch_chunks * config.keyframe_interval)


def _samples(
    config: LabelConfig, sizes: Mapping[Size, SizeCount], model: VideoSegmenter, num_frames: int
) -> Iterator[ShardTask]:
    """The first `num_frames` of a video of each of the most common sizes, from an I-frame on, as long shards are."""
    rule = plan_rule(config, model)
    rule = replace(rule, shard_frames=min(rule.shard_frames, num_frames))
    by_frames = sorted(sizes.values(), key=lambda size: size.frames, reverse=True)
    num_samples, problem = 0, None
    for size in by_frames[:NUM_SIZES]:
        try:
            plan = plan_video(size.sample_uri, rule=rule, storage_options=config.video_options)
        except VideoError as error:
            problem = error
            continue
        num_samples += 1
        yield shard_tasks(size.sample_uri, plan)[0]
    if problem is not None and not num_samples:
        raise problem


def _measure_all(worker: ShardWorker, samples: Sequence[ShardTask], folder: str) -> list[Speed]:
    """Of the samples that can be labeled. Raises VideoError where none can (too large for the memory)."""
    speeds, problem = [], None
    for task in samples:
        try:
            speeds.append(_measure(worker, task, folder))
        except VideoError as error:
            problem = error
    if problem is not None and not speeds:
        raise problem
    return speeds


def _measure(worker: ShardWorker, task: ShardTask, folder: str) -> Speed:
    begun_s = time.perf_counter()
    worker(task)  # the first batches of a size are slow
    num_frames = label_bytes = 0
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < MEASURE_S:
        shutil.rmtree(Path(labels_uri(folder)))  # so that the same shard can be labeled once more
        worker.prepare(task)
        result = worker(task)
        num_frames += result.num_frames
        label_bytes += result.num_bytes
    return Speed(
        height=task.video.height,
        width=task.video.width,
        num_frames=num_frames,
        seconds=time.perf_counter() - started_s,
        label_bytes=label_bytes,
        warm_up_s=started_s - begun_s,
    )
