"""The actors of a job as the driver holds them: hire, hand work, wait, dismiss. It decides nothing either.

Ray restarts no actor and repeats no call: what is lost is told to the driver, which decides.
"""

from __future__ import annotations

import contextlib
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
_ID_LINE = re.compile(r"\s*(class_name|actor_id|pid|namespace|name|ip):")


@dataclass(frozen=True, kw_only=True)
class Gone:
    """An actor that will answer no more."""

    reason: str
    with_its_node: bool


Answer = ActorReport | ShardResult | Raised | Gone


@dataclass(eq=False, kw_only=True)
class HiredActor:
    """One actor. running: its shard, next: the one handed over behind it (Ray queues it in the actor).

    running_since_s: when the driver knew that the shard runs. open_video: id of the video it works on last.
    suspect_shards: shards of an unbroken row of unexpected errors. frames_done: of the running shard, when last asked.
    """

    number: int
    handle: Any
    asked_s: float
    answer: Any
    report: ActorReport | None = None
    running: ShardTask | None = None
    running_since_s: float = 0.0
    next: ShardTask | None = None
    next_answer: Any = None
    open_video: str | None = None
    suspect_shards: set[tuple[str, int]] = field(default_factory=set)
    frames_done: int = 0
    frames_answer: Any = None

    @property
    def is_idle(self) -> bool:
        """Up and without work."""
        return self.report is not None and self.running is None


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
            "concurrency_groups": {"status": 1},  # so that progress is answered while a shard runs
        }
        self._actor_class = ray.remote(**settings)(ShardActor)

    def hire(self) -> HiredActor:
        """Ask for one more actor; its first answer is an ActorReport, or Raised."""
        handle: Any = self._actor_class.remote()
        options = self._options
        answer = handle.start.remote(
            self._spec, self._weights, choice=options.device, num_threads=options.cpus_per_actor
        )
        actor = HiredActor(number=self._num_hired, handle=handle, asked_s=time.monotonic(), answer=answer)
        self._num_hired += 1
        self.actors.append(actor)
        return actor

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
        for actor in self.actors:
            if actor.frames_answer is not None and ray.wait([actor.frames_answer], timeout=0)[0]:
                with contextlib.suppress(RayError):  # a lost actor shows where its shard is waited for
                    actor.frames_done = ray.get(actor.frames_answer)
                actor.frames_answer = None
            if actor.running is not None and actor.frames_answer is None:
                actor.frames_answer = actor.handle.frames_done.remote()
        return sum(actor.frames_done for actor in self.actors)

    def dismiss(self, actor: HiredActor) -> None:
        """Kill an actor, whatever it does (`ray.cancel` would not stop a running call)."""
        self.actors.remove(actor)
        ray.kill(actor.handle, no_restart=True)

    def dismiss_all(self) -> None:
        """Kill every actor."""
        for actor in list(self.actors):
            self.dismiss(actor)

    def wait(self, timeout_s: float) -> list[tuple[HiredActor, Answer]]:
        """Answers that came within `timeout_s`: as soon as there is one, all that are there."""
        asked = {actor.answer: actor for actor in self.actors if actor.answer is not None}
        if not asked:
            time.sleep(timeout_s)
            return []
        ready, rest = ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [(asked[reference], _read(reference, asked[reference].report)) for reference in ready]


def _read(reference: Any, report: ActorReport | None) -> Answer:
    try:
        return ray.get(reference)
    except _LOST as error:
        with_its_node = isinstance(error, NodeDiedError) or not _is_node_alive(report)
        return Gone(reason=_reason(error), with_its_node=with_its_node)
    except RayTaskError as error:  # Ray could not carry the arguments or the answer
        return describe_error(error.cause if isinstance(error.cause, Exception) else error, traceback=str(error))
    except RayError as error:
        return Gone(reason=_reason(error), with_its_node=False)


def _is_node_alive(report: ActorReport | None) -> bool:
    if report is None:
        return True
    return any(node["NodeID"] == report.node_id and node["Alive"] for node in ray.nodes())


def _reason(error: BaseException) -> str:
    """Ray's reason on one line, without its table of ids and its general advice."""
    text = " ".join(line.strip() for line in str(error).splitlines() if not _ID_LINE.match(line))
    text = text.removeprefix("The actor died unexpectedly before finishing this task.").strip()
    return text.partition(" Some common causes include")[0][:300] or type(error).__name__
