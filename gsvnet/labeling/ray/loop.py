"""The driver loop: hand-driven actors, one shard running in each and the next one handed over.

Read `run_shards` first. Which shard next and what a mishap costs is `schedule.py`; talking to Ray is `fleet.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import ray

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray.cluster import count_places, describe_nodes, resolve_options
from gsvnet.labeling.ray.events import ActorLost, ActorReport, ActorUp, Drained, Event, FleetStatus, ShardRetried
from gsvnet.labeling.ray.fleet import Answer, Fleet, Gone, HiredActor
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.schedule import Cause, Mishap, Schedule
from gsvnet.labeling.tasks import Raised, ShardResult, ShardTask, WorkerSpec

STATUS_EVERY_S = 1.0
COUNT_PLACES_EVERY_S = 5.0
READ_EVERY_S = 0.2  # tasks, while none is known
MAX_SUSPECT_SHARDS = 3  # unexpected errors in a row, of so many shards, blame the worker (say, a broken CUDA context)


def run_shards(
    tasks: Iterable[ShardTask | None],
    *,
    spec: WorkerSpec,
    weights: Any,
    options: RayOptions,
    model_hash: str | None = None,
    stop: threading.Event | None = None,
) -> Generator[Event, None, None]:
    """Label every shard on Ray actors; yields what happens until each shard is finished or given up.

    Ray must be up (`cluster.connect`). tasks: shards of one video in a row; read lazily, a bounded number ahead; None:
    no further one is known yet (asked again a moment later; no actor is hired while no shard is known). weights:
    anything that Ray can carry; sent once per node. model_hash: what every actor must build; None: what the first one
    built.
    stop: once set, no shard is begun, and running ones may finish within `options.drain_s`.
    Close the generator (`contextlib.closing`) to be sure that no actor outlives it. Raises WorkerError when actors do
    not come up, build another model or are lost too often, and a worker's own NoSpace, ConfigError or WorkerError.
    """
    options = resolve_options(options, ray.nodes())
    driver = _Driver(
        schedule=Schedule(tasks, max_attempts=options.max_attempts, max_kills=options.max_kills),
        fleet=Fleet(spec=spec, weights=ray.put(weights), options=options),
        options=options,
        model_hash=model_hash,
        stop=stop or threading.Event(),
    )
    try:
        while driver.has_work():
            yield from driver.step()
        if driver.is_draining:
            yield Drained(num_cut=driver.schedule.num_out)
    finally:
        driver.fleet.dismiss_all()


class _Driver:
    """The state of one `run_shards`. Its generators yield events and raise what ends the job."""

    def __init__(
        self, *, schedule: Schedule, fleet: Fleet, options: RayOptions, model_hash: str | None, stop: threading.Event
    ) -> None:
        self.schedule, self.fleet, self.options = schedule, fleet, options
        self.model_hash, self.stop = model_hash, stop
        self.num_lost = 0
        self.was_up = False
        self.drain_until_s: float | None = None
        self._num_places, self._places_counted_s, self._status_s = 0, -COUNT_PLACES_EVERY_S, 0.0

    @property
    def is_draining(self) -> bool:
        """The job was told to stop; no shard is begun any more."""
        return self.drain_until_s is not None

    def has_work(self) -> bool:
        """Some shard is neither finished nor given up; while draining: some shard still runs and has time."""
        if self.drain_until_s is None:
            return not self.schedule.is_over
        return self.schedule.num_out > 0 and time.monotonic() < self.drain_until_s

    def step(self) -> Iterator[Event]:
        """Once round: actors, work, answers, time limits."""
        if self.stop.is_set() and not self.is_draining:
            self._begin_drain()
        self.schedule.read()
        self._fit_fleet()
        self._hand_out()
        for actor, answer in self.fleet.wait(self._time_to_wait_s()):
            yield from self._receive(actor, answer)
        yield from self._check_deadlines()
        self._check_start()
        if time.monotonic() - self._status_s >= STATUS_EVERY_S:
            self._status_s = time.monotonic()
            yield self._status()

    def _fit_fleet(self) -> None:
        """As many actors as there are places and shards: hire what is missing, let idle ones go."""
        target = min(self._count_places(), self.schedule.num_unfinished)
        most = target if self.schedule.is_exhausted else max(target, len(self.fleet.actors))  # more may become known
        for actor in [a for a in self.fleet.actors if a.running is None][::-1]:
            if len(self.fleet.actors) > most:
                self.fleet.dismiss(actor)
        while len(self.fleet.actors) < target and not self.is_draining:
            self.fleet.hire()

    def _count_places(self) -> int:
        if self.options.num_actors is not None:
            return self.options.num_actors
        if time.monotonic() - self._places_counted_s >= COUNT_PLACES_EVERY_S:
            self._places_counted_s = time.monotonic()
            self._num_places = max(1, count_places(ray.nodes(), self.options))
        return self._num_places

    def _hand_out(self) -> None:
        """Every idle actor gets a shard; busy ones get their next while there is plenty for all."""
        if self.is_draining:
            return
        for actor in self.fleet.actors:
            if actor.is_idle and (task := self.schedule.take(actor.open_video)) is not None:
                self.fleet.hand(actor, task)
        for actor in self.fleet.actors:
            if self.schedule.num_waiting <= len(self.fleet.actors):
                return
            if actor.running is not None and actor.next is None:
                task = self.schedule.take(actor.open_video)
                assert task is not None, "shards wait"
                self.fleet.hand(actor, task)

    def _receive(self, actor: HiredActor, answer: Answer) -> Iterator[Event]:
        if isinstance(answer, Gone):
            yield from self._lose(actor, answer, cause="node" if answer.with_its_node else "killed")
        elif isinstance(answer, ActorReport):
            yield self._welcome(actor, answer)
        elif isinstance(answer, ShardResult):
            actor.suspect_shards.clear()
            self.schedule.finish(self.fleet.advance(actor))
            yield answer
        elif answer.kind in ("fatal", "space"):
            raise answer.original or WorkerError(answer.message)
        elif actor.report is None:
            yield from self._fail_to_start(actor, answer)
        else:
            yield from self._forgive(actor, answer)

    def _welcome(self, actor: HiredActor, report: ActorReport) -> ActorUp:
        self.model_hash = self.model_hash or report.model_hash
        if report.model_hash != self.model_hash:
            raise WorkerError(
                f"the actor on node {report.node_ip} built a model with hash {report.model_hash[:12]}, the job's is "
                f"{self.model_hash[:12]}; install the same gsvnet, torch and model code on every node"
            )
        actor.report, actor.answer = report, None
        self.was_up = True
        return ActorUp(number=actor.number, report=report)

    def _fail_to_start(self, actor: HiredActor, raised: Raised) -> Iterator[Event]:
        """The first actor that cannot build its worker ends the job; later ones are losses."""
        if not self.was_up:
            raise WorkerError(f"a worker could not be built: {raised.error}: {raised.message}\n{raised.traceback}")
        yield from self._lose(actor, Gone(reason=f"{raised.error}: {raised.message}", with_its_node=False))

    def _forgive(self, actor: HiredActor, raised: Raised) -> Iterator[Event]:
        """A shard raised: charge it; after several such in a row, doubt the worker."""
        task = self.fleet.advance(actor)
        assert raised.kind != "fatal", "these were raised"
        mishap = Mishap(cause=raised.kind, error=raised.error, message=raised.message)
        yield self._charge(task, mishap, traceback=raised.traceback)
        if raised.kind == "other":
            actor.suspect_shards.add((task.video.id, task.shard.index))
        if len(actor.suspect_shards) >= MAX_SUSPECT_SHARDS:
            reason = f"{MAX_SUSPECT_SHARDS} shards in a row raised; the last: {raised.error}: {raised.message}"
            yield from self._lose(actor, Gone(reason=reason, with_its_node=False), cause=None)

    def _charge(self, task: ShardTask, mishap: Mishap, *, traceback: str = "") -> Event:
        failure = self.schedule.charge(task, mishap)
        return failure or ShardRetried(
            video_id=task.video.id,
            shard_index=task.shard.index,
            attempts=self.schedule.num_attempts(task),
            error=mishap.error,
            message=mishap.message,
            traceback=traceback,
        )

    def _lose(self, actor: HiredActor, gone: Gone, *, cause: Cause | None = "killed") -> Iterator[Event]:
        """An actor is gone. cause: what its running shard is charged with; None: nothing, it had just begun."""
        self.fleet.dismiss(actor)
        yield ActorLost(number=actor.number, report=actor.report, reason=gone.reason, with_its_node=gone.with_its_node)
        if actor.next is not None:
            self.schedule.give_back(actor.next)
        if actor.running is not None:
            if cause is None:
                self.schedule.give_back(actor.running)
            else:
                yield self._charge(actor.running, Mishap(cause=cause, error="WorkerError", message=gone.reason))
        self.num_lost += not gone.with_its_node
        if self.num_lost > (self.options.max_replacements or 50) and self.has_work():
            raise WorkerError(
                f"{self.num_lost} actors were lost, --max-replacements is {self.options.max_replacements}; "
                f"the last: {gone.reason}"
            )

    def _check_deadlines(self) -> Iterator[Event]:
        limit_s = self.options.shard_timeout_s
        for actor in list(self.fleet.actors):
            if actor.running is not None and time.monotonic() - actor.running_since_s > limit_s:
                reason = f"ran longer than --shard-timeout-s {limit_s:g}"
                yield from self._lose(actor, Gone(reason=reason, with_its_node=False), cause="timeout")

    def _check_start(self) -> None:
        """Nobody came up in time: say what was asked for and what there is. Others at work: keep asking quietly."""
        actors = self.fleet.actors
        if self.is_draining or not actors or any(actor.report for actor in actors):
            return
        waited_s = time.monotonic() - max(actor.asked_s for actor in actors)
        if waited_s > self.options.actor_start_timeout_s:
            raise WorkerError(
                f"no actor came up within --actor-start-timeout-s {self.options.actor_start_timeout_s:g}; asked for: "
                f"{len(actors)} x {self.options.resources}; the cluster has: {describe_nodes(ray.nodes())}; "
                "lower --gpus-per-actor or --cpus-per-actor, or free or add nodes"
            )

    def _begin_drain(self) -> None:
        self.drain_until_s = time.monotonic() + self.options.drain_s
        for actor in self.fleet.actors:
            if actor.next is not None:  # it stays queued in the actor, which is dismissed as soon as it is idle
                self.schedule.give_back(actor.next)
                actor.next = actor.next_answer = None
        self.schedule.close()

    def _time_to_wait_s(self) -> float:
        limits = [self._status_s + STATUS_EVERY_S]
        if self.schedule.is_dry:
            limits.append(time.monotonic() + READ_EVERY_S)
        limits += [a.running_since_s + self.options.shard_timeout_s for a in self.fleet.actors if a.running]
        if self.drain_until_s is not None:
            limits.append(self.drain_until_s)
        return max(0.0, min(limits) - time.monotonic())

    def _status(self) -> FleetStatus:
        actors = self.fleet.actors
        return FleetStatus(
            num_waiting=self.schedule.num_waiting + sum(a.next is not None for a in actors),
            num_running=sum(a.running is not None for a in actors),
            num_up=sum(a.report is not None for a in actors),
            num_starting=sum(a.report is None for a in actors),
            frames_running=self.fleet.ask_progress(),
        )
