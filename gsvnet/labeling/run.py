"""Where the shards run: Ray actors, or this process. The only difference between the two is here."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gsvnet.errors import MissingExtra
from gsvnet.labeling.calibrate import Calibration, measure_batch_chunks, settle_batch_chunks
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.local import run_local
from gsvnet.labeling.precision import resolve_precision
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.tasks import Device, ShardFailure, ShardResult, ShardTask
from gsvnet.labeling.worker import LabelWorkerSpec
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.store.job import JobRecord


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a job ran on. stopped: it was told to stop (SIGTERM) before all shards were labeled."""

    device: str
    precision: str
    num_actors: int
    stopped: bool = False


def worker_spec(config: LabelConfig, job: JobRecord, *, batch_chunks: int) -> LabelWorkerSpec:
    """What every worker of the job is told. batch_chunks: as `settle_batch_chunks` says."""
    default_spool = (
        Path(tempfile.gettempdir()) / f"gsvnet-spool-{os.getuid()}"
    )  # one per user: none per job stays behind
    return LabelWorkerSpec(
        out=config.out,
        spool_dir=config.spool_dir or str(default_spool),
        keyframe_interval=config.keyframe_interval,
        batch_chunks=batch_chunks,
        precision=config.precision,
        compiled=config.compile,
        fingerprint=job.fingerprint,
        decoder=config.decoder,
        mask_size=config.mask_height_width,
        unsafe_commit=config.unsafe_commit,
        storage_options=config.storage_options,
        video_options=config.video_options,
    )


def ray_options(config: LabelConfig) -> RayOptions:
    """How the job uses a cluster. Raises ConfigError for what no cluster could do."""
    return RayOptions(
        num_actors=config.num_actors,
        gpus_per_actor=config.gpus_per_actor,
        cpus_per_actor=config.cpus_per_actor,
        device=config.device,
        max_attempts=config.limits.max_attempts,
        shard_timeout_s=config.limits.shard_timeout_s,
        actor_start_timeout_s=config.limits.actor_start_timeout_s,
        drain_s=config.limits.drain_seconds,
        max_replacements=config.limits.max_replacements,
        outage_timeout_s=config.limits.outage_timeout_s,
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """Shards to label. Every result goes to `progress`, every shard that was given up to `on_failure`.

    model_hash: content hash of `model`, which every worker must build.
    """

    tasks: Sequence[ShardTask]
    config: LabelConfig
    job: JobRecord
    model: VideoSegmenter
    model_hash: str
    progress: JobProgress
    on_failure: Callable[[ShardFailure], None]


def run_tasks(work: Work) -> Used:
    """Label the shards on Ray, or in this process with --no-ray."""
    if not work.tasks:
        return Used(device="none", precision=work.config.precision, num_actors=0)
    return _run_here(work) if work.config.no_ray else _run_on_ray(work)


def _calibration(work: Work, device: Device, *, gpu_share: float = 1.0) -> Calibration:
    """What the batch size is measured for: the largest video that is to be labeled."""
    video = max((task.video for task in work.tasks), key=lambda video: video.height * video.width)
    return Calibration(
        height=video.height,
        width=video.width,
        keyframe_interval=work.config.keyframe_interval,
        precision=resolve_precision(work.config.precision, device),
        gpu_share=gpu_share,
    )


def _run_here(work: Work) -> Used:
    config, progress = work.config, work.progress
    device = _local_device(config)
    batch_chunks = settle_batch_chunks(
        config, device, lambda: measure_batch_chunks(work.model, _calibration(work, device))
    )
    run_local(
        work.tasks,
        spec=worker_spec(config, work.job, batch_chunks=batch_chunks),
        model=work.model,
        device=device,
        num_threads=config.cpus_per_actor,
        max_attempts=config.limits.max_attempts,
        on_result=progress.add,
        on_failure=work.on_failure,
        on_tick=lambda frames_done: progress.tick(num_actors=1, frames_running=frames_done),
        on_note=progress.note,
    )
    return Used(device=device, precision=resolve_precision(config.precision, device), num_actors=1)


def _local_device(config: LabelConfig) -> Device:
    import torch

    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device


def _run_on_ray(work: Work) -> Used:
    try:
        from gsvnet.labeling.ray.calibrate import measure_on_gpu
        from gsvnet.labeling.ray.cluster import connect
        from gsvnet.labeling.ray.events import ActorLost, ActorUp, Drained, FleetStatus, ShardRetried
        from gsvnet.labeling.ray.loop import run_shards
    except ImportError as error:
        raise MissingExtra("ray", "label") from error
    config, progress = work.config, work.progress
    options = ray_options(config)
    device, stopped, num_up = "none", False, 0
    said: set[str] = set()  # actors of one kind say the same
    with connect(min_cpus=config.cpus_per_actor) as cluster, _stop_on_sigterm() as stop:
        options, _ = cluster.fit(options)
        gpus = options.gpus_per_actor if config.device != "cpu" else 0
        kind: Device = "cuda" if gpus else "cpu"
        calibration = _calibration(work, kind, gpu_share=min(1.0, gpus or 0))
        batch_chunks = settle_batch_chunks(config, kind, lambda: measure_on_gpu(work.model, calibration, options))
        events = run_shards(
            work.tasks,
            spec=worker_spec(config, work.job, batch_chunks=batch_chunks),
            weights=work.model,
            options=options,
            model_hash=work.model_hash,
            stop=stop,
        )
        with closing(events):
            for event in events:
                match event:
                    case ShardResult():
                        progress.add(event)
                    case ShardFailure():
                        work.on_failure(event)
                    case ActorUp():
                        device, num_up = event.report.device, num_up + 1
                        progress.tick(num_actors=num_up)
                        for text in set(event.report.notes) - said:
                            progress.note(text)
                        said.update(event.report.notes)
                    case ActorLost():
                        num_up -= event.report is not None
                        progress.note(f"lost actor {event.number}: {event.reason}")
                    case ShardRetried():
                        progress.note(f"again: {event.video_id} shard {event.shard_index}: {event.message}")
                    case FleetStatus():
                        progress.tick(num_actors=event.num_up, frames_running=event.frames_running)
                    case Drained():
                        stopped = True
    precision = resolve_precision(config.precision, device)
    return Used(device=device, precision=precision, num_actors=progress.num_actors, stopped=stopped)


@contextmanager
def _stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets while the block runs: running shards finish, no other begins."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
