"""Where a job's work is done: in this process, or on Ray. The only difference between the two is here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from gsvnet.errors import ConfigError, GsvnetError, MissingExtra
from gsvnet.labeling.calibrate import (
    Calibration,
    default_cpu_chunks,
    measure_batch_chunks,
    settle_batch_chunks,
)
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.feed import Peekable
from gsvnet.labeling.local import run_local
from gsvnet.labeling.planning import Planned, PlanRequest, plan_in_threads
from gsvnet.labeling.precision import resolve_precision
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.ray.usage import Usage
from gsvnet.labeling.sight import Probe
from gsvnet.labeling.tasks import Device, ShardFailure, ShardTask
from gsvnet.labeling.worker import LabelWorkerSpec
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.store.job import JobRecord
from gsvnet.store.manifest import Spread, spread_over_threads
from gsvnet.store.write import default_spool_dir


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do, tasks aside. Every result goes to `progress`, every shard given up to `on_failure`.

    model_hash: content hash of `model`, which every worker must build.
    """

    config: LabelConfig
    job: JobRecord
    model: VideoSegmenter
    model_hash: str
    progress: JobProgress
    on_failure: Callable[[ShardFailure], None]


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a job ran on. stopped: before all shards were labeled. error: what stopped it, to be raised once the run is
    reported; None for a signal.
    """

    device: str
    precision: str
    num_actors: int
    usage: Usage = field(default_factory=Usage)
    stopped: bool = False
    error: GsvnetError | None = None


class Workplace(Protocol):
    """Plans videos, labels shards, and spreads small work."""

    def plan(self, request: PlanRequest, uris: Sequence[str]) -> Iterator[Planned | None]:
        """Plans in the order of the URIs; None: the next one is not made yet."""
        ...

    def label(self, work: Work, tasks: Iterator[ShardTask | None]) -> Used:
        """Label the shards; None among them: the next one is not known yet. Raises what shows before the first."""
        ...

    @property
    def spread(self) -> Spread:
        """A `map` over several hands for a function that can be pickled."""
        ...


def open_workplace(config: LabelConfig) -> AbstractContextManager[Workplace]:
    """This process with --no-ray, else Ray, which is joined or started once there is something to do."""
    if config.no_ray:
        return nullcontext(Here(config))
    try:
        from gsvnet.labeling.ray.workplace import OnRay
    except ImportError as error:
        raise MissingExtra("ray", "label") from error
    return OnRay(config)


class Here:
    """One worker in this process, one shard after the other."""

    spread = staticmethod(spread_over_threads)

    def __init__(self, config: LabelConfig) -> None:
        self._device = local_device(config)

    def plan(self, request: PlanRequest, uris: Sequence[str]) -> Iterator[Planned | None]:
        """See Workplace."""
        return plan_in_threads(request, uris)

    def label(self, work: Work, tasks: Iterator[ShardTask | None]) -> Used:
        """See Workplace."""
        config, progress, device = work.config, work.progress, self._device
        precision = resolve_precision(config.precision, device)
        known = Peekable(tasks)
        first = known.peek(stop=threading.Event())
        if first is None:
            return Used(device="none", precision=precision, num_actors=0)
        batch_chunks = settle_batch_chunks(
            config,
            device,
            lambda: measure_batch_chunks(work.model, calibration(first, config, device)),
            cpu_chunks=default_cpu_chunks(work.model, config.keyframe_interval),
        )
        error = None
        try:
            run_local(
                (task for task in known if task is not None),
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
        except GsvnetError as stopped_by:
            error = stopped_by
        return Used(device=device, precision=precision, num_actors=1, stopped=error is not None, error=error)


def worker_spec(
    config: LabelConfig, job: JobRecord, *, batch_chunks: int, sight: Probe | None = None
) -> LabelWorkerSpec:
    """What every worker of the job is told. batch_chunks: as `settle_batch_chunks` says. sight: what it must see."""
    return LabelWorkerSpec(
        out=config.out,
        spool_dir=config.spool_dir or str(default_spool_dir()),
        keyframe_interval=config.keyframe_interval,
        batch_chunks=batch_chunks,
        precision=config.precision,
        compiled=config.compile,
        fingerprint=job.fingerprint,
        decoder=config.decoder,
        mask_size=config.mask_height_width,
        smooth=config.smooth,
        drift=config.drift,
        min_agreement=config.min_agreement,
        uncertain=config.uncertain,
        sight=sight,
        unsafe_commit=config.unsafe_commit,
        storage_options=config.storage_options,
        video_options=config.video_options,
    )


def calibration(task: ShardTask, config: LabelConfig, device: Device, *, gpu_share: float = 1.0) -> Calibration:
    """What the batch size is measured for: the first video. Where a larger one does not fit, batches shrink."""
    return Calibration(
        height=task.video.height,
        width=task.video.width,
        keyframe_interval=config.keyframe_interval,
        precision=resolve_precision(config.precision, device),
        gpu_share=gpu_share,
    )


def local_device(config: LabelConfig) -> Device:
    """Where a worker in this process computes. Raises ConfigError for CUDA where there is none."""
    import torch

    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA device here")
    return config.device


class StopEvent(threading.Event):
    """Set by the first SIGTERM: running shards finish, no other begins. cut: by the second: nothing is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = threading.Event()

    def hear(self, *_: object) -> None:
        """A signal came."""
        (self.cut if self.is_set() else self).set()


@contextmanager
def stop_on_sigterm() -> Iterator[StopEvent]:
    """An event that SIGTERM sets while the block runs."""
    stop = StopEvent()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop.hear)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
