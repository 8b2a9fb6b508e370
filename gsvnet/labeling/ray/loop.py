"""The driver loop: hand-driven actors, one shard running in each and the next one handed over.

Read `run_shards` first. Which shard next and what a mishap costs is `schedule.py`; talking to actors is `fleet.py`, to
the cluster's head `view.py`; outages are `rests.py`, lost actors and nodes `losses.py`, time limits `patience.py`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from gsvnet.errors import ConfigError, WorkerError
from gsvnet.labeling.ray.cluster import resolve_options
from gsvnet.labeling.ray.events import ActorLost, ActorReport, ActorUp, Drained, Event, FleetStatus, ShardRetried
from gsvnet.labeling.ray.fleet import Answer, Fleet, Gone, HiredActor
from gsvnet.labeling.ray.losses import Losses
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.patience import check_start, overdue
from gsvnet.labeling.ray.rests import Rests
from gsvnet.labeling.ray.same_code import check_same_code, own_code
from gsvnet.labeling.ray.schedule import Cause, Mishap, Schedule
from gsvnet.labeling.ray.view import ClusterView
from gsvnet.labeling.tasks import Raised, ShardResult, ShardTask, WorkerSpec

STATUS_EVERY_S = 1.0
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
    cut: threading.Event | None = None,
) -> Generator[Event, None, None]:
    """Label every shard on Ray actors; yields what happens until each shard is finished or given up.

    Ray must be up (`cluster.connect`). tasks: shards of one video in a row; read lazily, a bounded number ahead; None:
    no further one is known yet (asked again a moment later; no actor is hired while no shard is known). weights:
    anything that Ray can carry; sent once per node. model_hash: what every actor must build; None: what the first one
    built.
    stop: once set, no shard is begun, and running ones may finish within `options.drain_s`. cut: once set, these are
    not waited for either. Several jobs may share a cluster: one whose actors find no place waits for it.
    Close the generator (`contextlib.closing`) to be sure that no actor outlives it. Raises WorkerError when actors do
    not come up, run other code, build another model or are lost too often, or the cluster's head is gone; a worker's
    own ConfigError or WorkerError; StoreUnavailable, SourceUnavailable or NoSpace when nothing got done for
    `options.outage_timeout_s`.
    """
    own_code()  # as it is now: the files may change while actors come up
    options = resolve_options(options, ray.nodes())
    driver = _Driver(
        schedule=Schedule(tasks, max_attempts=options.max_attempts, max_kills=options.max_kills),
        fleet=Fleet(spec=spec, weights=ray.put(weights), options=options),
        options=options,
        model_hash=model_hash,
        stop=stop or threading.Event(),
        cut=cut or threading.Event(),
    )
    try:
        while driver.has_work():
            yield from driver.step()
        if driver.is_draining:
            yield Drained(num_cut=driver.schedule.num_out)
    except RayError as error:
        raise WorkerError(f"Ray failed: {str(error).splitlines()[0]}; is the cluster's head up?") from error
    finally:
        driver.dismiss(list(driver.fleet.actors))


class _Driver:
    """The state of one `run_shards`. Its generators yield events and raise what ends the job."""

    def __init__(
        self,
        *,
        schedule: Schedule,
        fleet: Fleet,
        options: RayOptions,
        model_hash: str | None,
        stop: threading.Event,
        cut: threading.Event,
    ) -> None:
        self.schedule, self.fleet, self.options = schedule, fleet, options
        self.model_hash, self.stop, self.cut = model_hash, stop, cut
        self.view = ClusterView(options)
        self.rests, self.losses = Rests(options.outage_timeout_s), Losses(options.node_verdict_s)
        self.was_up = False
        self.drain_until_s: float | None = None
        self._status_s = 0.0

    @property
    def is_draining(self) -> bool:
        """The job was told to stop; no shard is begun any more."""
        return self.drain_until_s is not None

    def has_work(self) -> bool:
        """Some shard is neither finished nor given up; while draining: some shard still runs and has time."""
        if self.drain_until_s is None:
            return not self.schedule.is_over
        return self.schedule.num_out > 0 and time.monotonic() < self.drain_until_s and not self.cut.is_set()

    def step(self) -> Iterator[Event]:
        """Once round: actors, work, answers, verdicts, time limits."""
        if (self.stop.is_set() or self.cut.is_set()) and not self.is_draining:
            self._begin_drain()
        self.view.check_head()
        self.schedule.read()
        self._fit_fleet()
        self._hand_out()
        for actor, answer in self.fleet.wait(self._time_to_wait_s()):
            yield from self._receive(actor, answer)
        yield from self._judge_losses()
        if time.monotonic() - self._status_s >= STATUS_EVERY_S:
            self._status_s = time.monotonic()
            yield self._status()
            yield from self._check_limits()

    def dismiss(self, actors: Iterable[HiredActor]) -> None:
        """Kill actors."""
        for actor in actors:
            self.fleet.dismiss(actor, kill=self.view.answers())

    def _fit_fleet(self) -> None:
        """As many actors as there are places and shards: hire what is missing, let idle ones go."""
        target = min(self._count_places(), self.schedule.num_unfinished)
        most = target if self.schedule.is_exhausted else max(target, len(self.fleet.actors))  # more may become known
        surplus = len(self.fleet.actors) - most
        if surplus > 0:  # those that are not up yet before those that only wait for their next shard
            idle = [actor for actor in self.fleet.actors[::-1] if actor.running is None]
            self.dismiss(sorted(idle, key=lambda actor: actor.report is not None)[:surplus])
        if self.is_draining or not self.view.is_reachable:
            return
        while len(self.fleet.actors) < target:
            self.fleet.hire()
        for actor in self.fleet.actors:
            if actor.report is None and actor.answer is None and not actor.is_resting:
                self.fleet.start(actor)

    def _count_places(self) -> int:
        return self.options.num_actors or max(1, self.view.count_places())

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
            if actor.running is not None and actor.next is None and not actor.rest_s:
                task = self.schedule.take(actor.open_video)
                assert task is not None, "shards wait"
                self.fleet.hand(actor, task)

    def _receive(self, actor: HiredActor, answer: Answer) -> Iterator[Event]:
        if isinstance(answer, Gone):
            yield from self._lose(actor, answer)
        elif isinstance(answer, ActorReport):
            yield self._welcome(actor, answer)
        elif isinstance(answer, ShardResult):
            self._finish(actor, answer)
            yield answer
        elif answer.kind == "fatal":
            raise answer.original or WorkerError(answer.message)
        elif answer.kind in ("outage", "space"):
            yield from self._rest(actor, answer)
        elif actor.report is None:
            yield from self._fail_to_start(actor, answer)
        else:
            yield from self._forgive(actor, answer)

    def _finish(self, actor: HiredActor, result: ShardResult) -> None:
        actor.suspect_shards.clear()
        self.schedule.finish(self.fleet.advance(actor))
        self.rests.note_finished(actor)
        if not result.published:  # another run was first: keep out of its way
            self.schedule.scatter(os.getpid())

    def _welcome(self, actor: HiredActor, report: ActorReport) -> ActorUp:
        check_same_code(report.code, node_ip=report.node_ip)
        self.model_hash = self.model_hash or report.model_hash
        if report.model_hash != self.model_hash:
            raise WorkerError(
                f"the actor on node {report.node_ip} built a model with hash {report.model_hash[:12]}, the job's is "
                f"{self.model_hash[:12]}; install the same gsvnet, torch and model code on every node"
            )
        actor.report, actor.answer, actor.rest_s = report, None, 0.0
        self.was_up = True
        return ActorUp(number=actor.number, report=report)

    def _fail_to_start(self, actor: HiredActor, raised: Raised) -> Iterator[Event]:
        """The first actor that cannot build its worker ends the job; later ones are losses."""
        if not self.was_up and isinstance(raised.original, ConfigError):
            raise raised.original
        if not self.was_up:
            raise WorkerError(f"a worker could not be built: {raised.error}: {raised.message}\n{raised.traceback}")
        yield from self._lose(actor, Gone(reason=f"{raised.error}: {raised.message}"), cause=None)

    def _rest(self, actor: HiredActor, raised: Raised) -> Iterator[Event]:
        """Storage does not answer or a disk is full: nobody's fault. The actor tries again later."""
        assert raised.kind in ("outage", "space")
        event = self.rests.begin(actor, raised)  # before the shard behind begins, which may be well again
        if actor.report is None:
            actor.answer = None
        else:
            task = self.fleet.advance(actor)
            mishap = Mishap(cause=raised.kind, error=raised.error, message=raised.message)
            failure = self.schedule.postpone(task, mishap)
            if failure is not None:
                yield failure
        if event is not None:
            yield event

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
            yield from self._lose(actor, Gone(reason=reason), cause=None)

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
        """An actor is gone. cause: what its running shard is charged with; None: nothing, it had just begun.

        Ray may know only later that its node is gone too. The shard runs elsewhere at once, unless it would count as
        poison now: then it waits for the verdict.
        """
        self.dismiss([actor])
        if actor.next is not None:
            self.schedule.give_back(actor.next)
        task, node_id = actor.running, actor.report.node_id if actor.report is not None else ""
        is_open = cause == "killed" and node_id not in ("", self.view.own_node_id) and not gone.with_its_node
        with_its_node = gone.with_its_node or (is_open and node_id not in self.view.alive_nodes())
        yield ActorLost(number=actor.number, report=actor.report, reason=gone.reason, with_its_node=with_its_node)
        if is_open and not with_its_node:
            held = task if task is not None and self.schedule.is_last_kill(task) else None
            self.losses.put_off(node_id, gone.reason, held=held)
            task = None if held else task
        else:
            self.losses.num_counted += not with_its_node
        if task is not None and cause is None:
            self.schedule.give_back(task)
        elif task is not None and cause is not None:
            yield self._charge(task, _death("node" if with_its_node else cause, gone.reason, node_id=node_id))
        self._check_budget(gone.reason)

    def _judge_losses(self) -> Iterator[Event]:
        """Actors that were lost some time ago: was it their node?"""
        if not self.losses.due() or not self.view.is_reachable:
            return
        alive = self.view.alive_nodes()
        for loss, with_its_node in self.losses.judge(alive):
            if with_its_node:
                self.schedule.pardon({loss.node_id})
            if loss.held is not None:
                yield self._charge(loss.held, _death("node" if with_its_node else "killed", loss.reason))
            self._check_budget(loss.reason)

    def _check_budget(self, reason: str) -> None:
        budget = self.options.max_replacements
        if budget is None:
            budget = max(50, 4 * self._count_places())
        if self.losses.num_counted > budget and self.has_work():
            raise WorkerError(
                f"{self.losses.num_counted} actors were lost, --max-replacements is {budget}; the last: {reason}"
            )

    def _check_limits(self) -> Iterator[Event]:
        """About once a second: shards and starts that take too long, processes that are silent, outages."""
        for actor in list(self.fleet.actors):
            if (reason := overdue(actor, self.options)) is None:
                continue
            if actor.report is None and not self.was_up:
                raise WorkerError(f"the first actor {reason}")
            yield from self._lose(actor, Gone(reason=reason), cause="timeout")
        if not self.is_draining:
            check_start(self.fleet, self.options, self.view, was_up=self.was_up)
            self.rests.check(actor.running_since_s for actor in self.fleet.actors if actor.running is not None)

    def _begin_drain(self) -> None:
        self.drain_until_s = time.monotonic() + self.options.drain_s
        for actor in self.fleet.actors:
            if actor.next is not None:  # it stays queued in the actor, which is dismissed as soon as it is idle
                self.schedule.give_back(actor.next)
                actor.next = actor.next_answer = None
        for task in self.losses.release():
            self.schedule.give_back(task)
        self.schedule.close()

    def _time_to_wait_s(self) -> float:
        limits = [self._status_s + STATUS_EVERY_S]
        if self.schedule.is_dry:
            limits.append(time.monotonic() + READ_EVERY_S)
        limits += [a.rests_until_s for a in self.fleet.actors if a.is_resting]
        if self.losses.next_verdict_s is not None and self.view.is_reachable:
            limits.append(self.losses.next_verdict_s)
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
            num_resting=sum(a.is_resting for a in actors),
            frames_running=self.fleet.ask_progress(),
        )


def _death(cause: Cause, reason: str, *, node_id: str = "") -> Mishap:
    return Mishap(cause=cause, error="WorkerError", message=reason, node_id=node_id)
