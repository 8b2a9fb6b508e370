"""Ray as the place where a job's work is done: planning in tasks, labeling in actors."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from types import TracebackType
from typing import Self

from gsvnet.errors import GsvnetError
from gsvnet.labeling.calibrate import default_cpu_chunks, settle_batch_chunks
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.feed import Peekable, without_waiting
from gsvnet.labeling.planning import Planned, PlanRequest, plan_in_threads
from gsvnet.labeling.precision import resolve_precision
from gsvnet.labeling.ray.calibrate import measure_on_gpu
from gsvnet.labeling.ray.cluster import Cluster, connect
from gsvnet.labeling.ray.events import ActorLost, ActorResting, ActorUp, Drained, Event, FleetStatus, ShardRetried
from gsvnet.labeling.ray.loop import run_shards
from gsvnet.labeling.ray.metrics import JobMetrics
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.plan import plan_on_ray, spread_over_ray
from gsvnet.labeling.ray.usage import UsageMeter
from gsvnet.labeling.sight import Probe, remove_probe, write_probe
from gsvnet.labeling.tasks import Device, ShardFailure, ShardResult, ShardTask
from gsvnet.labeling.workplace import Used, Work, calibration, stop_on_sigterm, worker_spec
from gsvnet.store.manifest import Spread, spread_over_threads

FEW_VIDEOS = 16  # are planned by threads of the driver: where all is labeled already, Ray is not even started
PLANS_AHEAD = 256


class OnRay:
    """The cluster that RAY_ADDRESS names, or one of its own. A context manager: joined when first needed, then left."""

    def __init__(self, config: LabelConfig) -> None:
        self._config, self._options = config, ray_options(config)
        self._cluster: Cluster | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def spread(self) -> Spread:
        """See Workplace: tasks on a cluster that was joined, else threads."""
        joined = self._cluster is not None and not self._cluster.started_here
        return spread_over_ray if joined else spread_over_threads

    def plan(self, request: PlanRequest, uris: Sequence[str]) -> Iterator[Planned | None]:
        """See Workplace."""
        if len(uris) <= FEW_VIDEOS:
            return without_waiting(plan_in_threads(request, uris), most=PLANS_AHEAD)
        self._connect()
        planned = without_waiting(plan_on_ray(request, uris), most=PLANS_AHEAD)
        self._stack.callback(planned.close)  # before the cluster is left
        return planned

    def label(self, work: Work, tasks: Iterator[ShardTask | None]) -> Used:
        """See Workplace."""
        config, known = self._config, Peekable(tasks)
        with stop_on_sigterm() as stop:
            first = known.peek(stop=stop)
            if first is None:
                return Used(device="none", precision=config.precision, num_actors=0, stopped=stop.is_set())
            cluster = self._connect()
            options, _ = cluster.fit(self._options)
            gpus = options.gpus_per_actor if config.device != "cpu" else 0
            kind: Device = "cuda" if gpus else "cpu"
            trial = calibration(first, config, kind, gpu_share=min(1.0, gpus or 0))
            batch_chunks = settle_batch_chunks(
                config,
                kind,
                lambda: measure_on_gpu(work.model, trial, options, stop=stop),
                cpu_chunks=default_cpu_chunks(work.model, config.keyframe_interval),
            )
            listener = _Listener(work, gpus_per_actor=gpus or 0)
            with _probe(config, first) as sight:
                events = run_shards(
                    known,
                    spec=worker_spec(config, work.job, batch_chunks=batch_chunks, sight=sight),
                    weights=work.model,
                    options=options,
                    model_hash=work.model_hash,
                    stop=stop,
                    cut=stop.cut,
                )
                with closing(events):
                    listener.follow(events)
        return listener.used(config.precision)

    def _connect(self) -> Cluster:
        if self._cluster is None:
            handler = signal.getsignal(signal.SIGTERM)
            self._cluster = self._stack.enter_context(connect(min_cpus=self._config.cpus_per_actor))
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which ends the process at once
        return self._cluster


def ray_options(config: LabelConfig) -> RayOptions:
    """How the job uses a cluster. Raises ConfigError for what no cluster could do."""
    limits = config.limits
    return RayOptions(
        num_actors=config.num_actors,
        gpus_per_actor=config.gpus_per_actor,
        cpus_per_actor=config.cpus_per_actor,
        device=config.device,
        max_attempts=limits.max_attempts,
        max_replacements=limits.max_replacements,
        shard_timeout_s=limits.shard_timeout_s,
        actor_start_timeout_s=limits.actor_start_timeout_s,
        outage_timeout_s=limits.outage_timeout_s,
        drain_s=limits.drain_seconds,
    )


@contextmanager
def _probe(config: LabelConfig, first: ShardTask) -> Iterator[Probe]:
    """What every actor must see before it gets work; gone afterwards."""
    probe = write_probe(config, first)
    try:
        yield probe
    finally:
        remove_probe(probe)


class _Listener:
    """Passes the driver's events on: to progress, to the metrics, to the record of failures."""

    def __init__(self, work: Work, *, gpus_per_actor: float) -> None:
        self._work, self._progress = work, work.progress
        self._meter = UsageMeter(gpus_per_actor=gpus_per_actor)
        self._metrics = JobMetrics(fingerprint=work.job.fingerprint[:12])
        self._said: set[str] = set()  # actors of one kind say the same
        self._device, self._num_up, self._stopped = "none", 0, False
        self._error: GsvnetError | None = None

    def follow(self, events: Iterator[Event]) -> None:
        """Hear all events, until the end or until an error of ours ends the run."""
        try:
            for event in events:
                self._hear(event)
        except GsvnetError as error:
            self._error = error
        finally:
            self._metrics.end()

    def _hear(self, event: Event) -> None:
        self._meter.observe(event)
        self._metrics.observe(event)
        match event:
            case ShardResult():
                self._progress.add(event)
            case ShardFailure():
                self._work.on_failure(event)
            case ActorUp():
                self._welcome(event)
            case ActorLost():
                self._num_up -= event.report is not None
                self._progress.note(f"lost actor {event.number}: {event.reason}")
            case ActorResting():
                self._progress.note(f"actor {event.number} rests {event.seconds:.0f} s: {event.reason}")
            case ShardRetried():
                self._progress.note(f"again: {event.video_id} shard {event.shard_index}: {event.message}")
            case FleetStatus():
                self._num_up = event.num_up
                self._progress.tick(
                    num_actors=event.num_up, num_resting=event.num_resting, frames_running=event.frames_running
                )
            case Drained():
                self._stopped = True

    def used(self, precision: str) -> Used:
        return Used(
            device=self._device,
            precision=resolve_precision(precision, self._device),
            num_actors=self._progress.num_actors,
            usage=self._meter.usage(),
            stopped=self._stopped or self._error is not None,
            error=self._error,
        )

    def _welcome(self, event: ActorUp) -> None:
        self._device, self._num_up = event.report.device, self._num_up + 1
        self._progress.tick(num_actors=self._num_up)
        for text in set(event.report.notes) - self._said:
            self._progress.note(text)
        self._said.update(event.report.notes)
