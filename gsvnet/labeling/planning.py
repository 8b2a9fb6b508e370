"""Many videos planned, a bounded number of them ahead of whoever takes the plans.

`plan_in_threads` here, `ray.plan.plan_on_ray` on a cluster: the same answers in the same order.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from gsvnet.errors import SourceUnavailable, StoreRefused, StoreUnavailable
from gsvnet.labeling.plan import PlanRule, VideoPlan, plan_video, stored_or_new_plan
from gsvnet.labeling.tasks import ShardFailure, describe_error
from gsvnet.store.job import list_plans
from gsvnet.uris import redact_text, redact_uri
from gsvnet.video.source import video_id

PLANNING_THREADS = 16  # planning waits for storage more than it computes
VIDEOS_AHEAD = 64
RETRY_AFTER_S = (10.0, 60.0)  # before each further round over videos whose store did not answer
OUTPUT_RETRY_S = 10.0  # beside the tries of each request

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Some = TypeVar("Some", bound="Planned | None")


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """How videos are planned; picklable. out: where plans are read and kept; None: nowhere.

    outage_timeout_s: how long it may go on that no store of any video answers.
    """

    out: str | None
    rule: PlanRule
    storage_options: dict | None = field(default=None, repr=False)
    video_options: dict | None = field(default=None, repr=False)
    unsafe_commit: bool = False
    outage_timeout_s: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What became of one video: a plan, or a failure of the whole video. uri: as the user gave it, never shown."""

    uri: str = field(repr=False)
    plan: VideoPlan | None = None
    failure: ShardFailure | None = None

    @property
    def is_short_of_memory(self) -> bool:
        """There was too little memory to read it; what else was planned in the process may have taken it."""
        return self.failure is not None and self.failure.error == MemoryError.__name__

    @property
    def is_outage(self) -> bool:
        """Nothing is known of the video: its store does not answer."""
        return self.failure is not None and self.failure.error == SourceUnavailable.__name__


def plan_in_threads(request: PlanRequest, uris: Iterable[str]) -> Iterator[Planned]:
    """Plans in the order of `uris`, which are read as the plans are taken.

    Videos whose store does not answer come last, after two more tries. Raises StoreError when the output cannot be
    read or written (one that does not answer is waited for), ConfigError for what holds for all videos,
    SourceUnavailable when no store answers for long.
    """
    stored = stored_plans(request)

    def plan_all(some: Iterable[str]) -> Iterator[Planned]:
        return in_order(lambda uri: plan_one(request, uri, stored), some, PLANNING_THREADS, VIDEOS_AHEAD)

    yield from try_again_later(plan_all, uris, outage_timeout_s=request.outage_timeout_s)


def in_share(video_id: str, index: int, count: int) -> bool:
    """Whether a video belongs to array job `index` of `count`; by its id alone, whatever other videos there are.

    >>> [in_share("drive-0123456789ab", index, 3) for index in range(3)]
    [False, True, False]
    """
    return share_of(video_id, count) == index


def share_of(video_id: str, count: int) -> int:
    """The array job, 0..count-1, that a video belongs to."""
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") % count


def stored_plans(request: PlanRequest) -> Container[str]:
    """Ids of the videos that have a plan already, by one listing: no look at what is not there."""
    return frozenset(list_plans(request.out, request.storage_options)) if request.out is not None else frozenset()


def plan_one(request: PlanRequest, uri: str, stored: Container[str]) -> Planned:
    """One video planned. While the output is out of reach it waits: so would every other video.

    Raises what is no video's fault: StoreError (StoreUnavailable after `request.outage_timeout_s`), ConfigError.
    """
    try:
        return Planned(uri=uri, plan=_plan_through_outages(request, uri, stored))
    except Exception as error:
        raised = describe_error(error)
        if raised.kind == "video" or isinstance(error, SourceUnavailable):
            return failed_video(uri, error=raised.error, message=raised.message)
        if isinstance(error, MemoryError):
            said = "reading it asks for more memory than a video may need; it is damaged or no video"
            return failed_video(uri, error=raised.error, message=f"{redact_uri(uri)}: {said}")
        if raised.kind == "other":
            return failed_video(uri, error=raised.error, message=f"{redact_uri(uri)}: {redact_text(raised.message)}")
        raise


def failed_video(uri: str, *, error: str, message: str, attempts: int = 1) -> Planned:
    """A video that cannot be planned. message: without credentials."""
    failure = ShardFailure(video_id=video_id(uri), shard_index=None, error=error, message=message, attempts=attempts)
    return Planned(uri=uri, failure=failure)


def in_order(
    function: Callable[[Item], Answer], items: Iterable[Item], num_threads: int, num_ahead: int
) -> Iterator[Answer]:
    """Answers in the order of the items, of which at most `num_ahead` are taken before their answers are."""
    todo: SimpleQueue[tuple[Future[Answer], Item] | None] = SimpleQueue()
    for _ in range(num_threads):  # daemons: a process that was told to stop ends, whatever a store makes them wait for
        Thread(target=_answer_all, args=(function, todo), name="gsvnet-plan", daemon=True).start()
    waiting: deque[Future[Answer]] = deque()
    try:
        for item in items:
            waiting.append(Future())
            todo.put((waiting[-1], item))
            while waiting and (len(waiting) >= num_ahead or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in range(num_threads):
            todo.put(None)


def _answer_all(function: Callable[[Item], Answer], todo: SimpleQueue[tuple[Future[Answer], Item] | None]) -> None:
    while (job := todo.get()) is not None:
        future, item = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(function(item))
        except BaseException as error:
            future.set_exception(error)


def try_again_later(
    plan_all: Callable[[Iterable[str]], Iterator[Some]], uris: Iterable[str], *, outage_timeout_s: float
) -> Iterator[Some]:
    """What `plan_all` says, but videos whose store does not answer are set aside and asked for again after the others.

    None among the answers is passed on. Raises SourceUnavailable when nothing else came for `outage_timeout_s`, the
    time aside that the plans waited to be taken. Once the others are planned, silence says nothing of them.
    """
    answered_s, any_answered, patience_s = time.monotonic(), False, outage_timeout_s
    for pause_s in (*RETRY_AFTER_S, None):
        aside = []
        for planned in plan_all(uris):
            if planned is None:
                yield planned
                continue
            now_s = time.monotonic()
            if not planned.is_outage:
                answered_s, any_answered = now_s, True
            elif planned.failure is not None and now_s - answered_s > patience_s:
                raise SourceUnavailable(f"no video could be read for {patience_s:g} s: {planned.failure.message}")
            if planned.is_outage and pause_s is not None:
                aside.append(planned.uri)
            else:
                yield planned
                answered_s += time.monotonic() - now_s
        if not aside or pause_s is None:
            return
        patience_s = math.inf if any_answered else outage_timeout_s
        time.sleep(pause_s * random.uniform(0.5, 1.5))
        uris = aside


def _plan_through_outages(request: PlanRequest, uri: str, stored: Container[str]) -> VideoPlan:
    until_s = time.monotonic() + request.outage_timeout_s
    while True:
        try:
            return _plan(request, uri, stored)
        except StoreRefused:
            raise
        except StoreUnavailable:
            if time.monotonic() >= until_s:
                raise
            time.sleep(OUTPUT_RETRY_S * random.uniform(0.5, 1.5))


def _plan(request: PlanRequest, uri: str, stored: Container[str]) -> VideoPlan:
    if request.out is None:
        return plan_video(uri, rule=request.rule, storage_options=request.video_options)
    return stored_or_new_plan(
        request.out,
        uri,
        rule=request.rule,
        storage_options=request.storage_options,
        video_options=request.video_options,
        unsafe_commit=request.unsafe_commit,
        is_stored=video_id(uri) in stored,
    )
