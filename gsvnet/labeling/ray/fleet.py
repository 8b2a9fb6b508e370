"""The actors of a job as the driver holds them: hire, hand work, wait, dismiss. It decides nothing either.

Ray restarts no actor and repeats no call: what is lost is told to the driver, which decides.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from gsvnet.labeling.ray.actor import ShardActor
from gsvnet.labeling.ray.events import ActorReport
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.tasks import Raised, ShardResult, ShardTask, WorkerSpec, describe_error

_LOST = (RayActorError, NodeDiedError, OutOfMemoryError, WorkerCrashedError, TaskCancelledError)
_NODE_DIED = "its node has died"  # in Ray's words for an actor
_ASKS_PER_S = 50  # for progress, so that hundreds of actors cost the driver no more
_IN_CREATION = "error raised in its creation task"  # likewise; the error itself is the last line
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ID_LINE = re.compile(r"\s*(class_name|actor_id|pid|namespace|name|ip):")


@dataclass(frozen=True, kw_only=True)
class Gone:
    """An actor that will answer no more. with_its_node: Ray knows already that its node is lost too."""

    reason: str
    with_its_node: bool = False


Answer = ActorReport | ShardResult | Raised | Gone


@dataclass(eq=False, kw_only=True)
class HiredActor:
    """One actor. running: its shard, next: the one handed over behind it (Ray queues it in the actor).

    placed_s: when it was first heard of: it has a place, `start` is at work. running_since_s: when the driver knew that
    the shard runs. open_video: id of the video it works on last. suspect_shards: shards of an unbroken row of
    unexpected errors. frames_done: of the running shard, when last asked (frames_asked_s). rest_s: the length of its
    latest rest in an outage that is not over for it, 0 outside. Times are those of `time.monotonic`.
    """

    number: int
    handle: Any
    asked_s: float
    answer: Any
    report: ActorReport | None = None
    placed_s: float | None = None
    running: ShardTask | None = None
    running_since_s: float = 0.0
    next: ShardTask | None = None
    next_answer: Any = None
    open_video: str | None = None
    suspect_shards: set[tuple[str, int]] = field(default_factory=set)
    frames_done: int = 0
    frames_answer: Any = None
    frames_asked_s: float = 0.0
    rest_s: float = 0.0
    rests_until_s: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Up, without work, and ready for some."""
        return self.report is not None and self.running is None and not self.is_resting

    @property
    def is_resting(self) -> bool:
        """It met an outage and waits before it tries again."""
        return self.rest_s > 0 and time.monotonic() < self.rests_until_s


class Fleet:
    """All actors of one job. weights: an object reference; actors of a node share one copy."""

    def __init__(self, *, spec: WorkerSpec, weights: Any, options: RayOptions) -> None:
        self.actors: list[HiredActor] = []
        self._spec, self._weights, self._options = spec, weights, options
        self._num_hired = 0
        settings: dict[str, Any] = {
            "num_cpus": options.cpus_per_actor,
            "num_gpus": options.gpus_per_actor or 0,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
            "concurrency_groups": {"status": 1, "hints": 1},  # so that these are answered while a shard runs
        }
        self._actor_class = ray.remote(**settings)(ShardActor)

    def hire(self) -> HiredActor:
        """Ask for one more actor; its first answer is an ActorReport, or Raised."""
        handle: Any = self._actor_class.remote()
        actor = HiredActor(number=self._num_hired, handle=handle, asked_s=time.monotonic(), answer=None)
        self.start(actor)
        self._ask(actor)
        self._num_hired += 1
        self.actors.append(actor)
        return actor

    def start(self, actor: HiredActor) -> None:
        """Let an actor build its worker; again after it could not."""
        choice, num_threads = self._options.device, self._options.cpus_per_actor
        if actor.placed_s is not None:
            actor.placed_s = time.monotonic()
        actor.answer = actor.handle.start.remote(self._spec, self._weights, choice=choice, num_threads=num_threads)

    def hand(self, actor: HiredActor, task: ShardTask) -> None:
        """Give a shard to an actor: it runs at once if the actor is idle, else after the running one."""
        answer = actor.handle.run.remote(task)
        actor.open_video = task.video.id
        if actor.running is None:
            actor.running, actor.answer, actor.running_since_s = task, answer, time.monotonic()
        else:
            actor.next, actor.next_answer = task, answer
            actor.handle.prepare.remote(task)

    def advance(self, actor: HiredActor) -> ShardTask:
        """The shard that has just answered; the next one, if any, is now the running one."""
        done = actor.running
        assert done is not None, "an answer belongs to a running shard"
        actor.running, actor.answer = actor.next, actor.next_answer
        actor.next = actor.next_answer = actor.frames_answer = None
        actor.frames_done = 0
        actor.running_since_s = time.monotonic()
        return done

    def ask_progress(self) -> int:
        """Frames that the running shards have behind them, as last answered; asks anew without waiting."""
        self._hear_progress()
        every_s = len(self.actors) / _ASKS_PER_S
        for actor in self.actors:
            is_due = time.monotonic() - actor.frames_asked_s >= every_s
            if actor.running is not None and actor.frames_answer is None and is_due:
                self._ask(actor)
        return sum(actor.frames_done for actor in self.actors)

    def _ask(self, actor: HiredActor) -> None:
        actor.frames_answer, actor.frames_asked_s = actor.handle.frames_done.remote(), time.monotonic()

    def _hear_progress(self) -> None:
        asked = {actor.frames_answer: actor for actor in self.actors if actor.frames_answer is not None}
        if not asked:
            return
        for reference in ray.wait(list(asked), num_returns=len(asked), timeout=0)[0]:
            actor = asked[reference]
            actor.frames_answer = None
            try:
                frames_done = ray.get(reference)
            except RayError:
                continue  # a lost actor shows where its shard is waited for
            actor.frames_done = frames_done if actor.running is not None else 0
            actor.placed_s = actor.placed_s or time.monotonic()

    def dismiss(self, actor: HiredActor, *, kill: bool = True) -> None:
        """Kill an actor, whatever it does (`ray.cancel` would not stop a running call).

        kill: False where the head does not answer, without which a kill does not return: then only let it go.
        """
        self.actors.remove(actor)
        if kill:
            ray.kill(actor.handle, no_restart=True)

    def wait(self, timeout_s: float) -> list[tuple[HiredActor, Answer]]:
        """Answers that came within `timeout_s`: as soon as there is one, all that are there."""
        asked = {actor.answer: actor for actor in self.actors if actor.answer is not None}
        if not asked:
            time.sleep(timeout_s)
            return []
        ready, rest = ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [(asked[reference], _read(reference)) for reference in ready]


def _read(reference: Any) -> Answer:
    try:
        return ray.get(reference)
    except _LOST as error:
        return Gone(reason=_reason(error), with_its_node=isinstance(error, NodeDiedError) or _NODE_DIED in str(error))
    except RayTaskError as error:  # Ray could not carry the arguments or the answer
        return describe_error(error.cause if isinstance(error.cause, Exception) else error, traceback=str(error))
    except RayError as error:
        return Gone(reason=_reason(error))


def _reason(error: BaseException) -> str:
    """Ray's reason on one line, without its table of ids and its general advice."""
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if not _ID_LINE.match(line)]
    text = " ".join(lines)
    if _IN_CREATION in text:
        return f"it could not be made: {[line for line in lines if line][-1][:300]}"
    text = text.removeprefix("The actor died unexpectedly before finishing this task.").strip()
    return text.partition(" Some common causes include")[0][:300] or type(error).__name__
