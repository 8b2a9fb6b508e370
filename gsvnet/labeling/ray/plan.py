"""Planning and other small work in Ray tasks, spread over the nodes, beside the actors that label."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gsvnet.errors import WorkerError
from gsvnet.labeling.planning import (
    Planned,
    PlanRequest,
    failed_video,
    in_order,
    plan_one,
    stored_plans,
    try_again_later,
)
from gsvnet.labeling.tasks import Raised, describe_error
from gsvnet.process import limited_memory
from gsvnet.uris import local_path, redact_uri
from gsvnet.video.source import video_id

VIDEOS_PER_TASK = 16
THREADS_PER_TASK = 4
CPUS_PER_TASK = 4  # of the cluster, for each task at a time: planning shares them with the actors
MOST_TASKS = 64
ANSWERS_AHEAD = 4  # per task at a time
TASK_TIMEOUT_S = 3600.0
LOOK_EVERY_S = 1.0
PLANNING_BYTES = 1792 << 20  # more than a task begins with; a day of video takes some 300 MB
MOST_DEATHS_IN_A_ROW = 10

# Actors reserve every CPU for as long as a job runs; a task that asked for one would wait for its end.
_BESIDE_ACTORS: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
_DIED = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, GetTimeoutError)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def plan_on_ray(request: PlanRequest, uris: Iterable[str]) -> Iterator[Planned | None]:
    """As `plan_in_threads`, in Ray tasks of several videos each. Ray must be up.

    Every second in which no plan comes there is None, so that a reader can leave: close it before Ray is left, which
    ends the process of a thread that still waits for a task.

    A video that kills its process twice is a failure of that video alone. Local files and a local output are read on
    the driver's node, the only one that surely has them. Raises as `plan_in_threads`, and WorkerError when tasks cannot
    run or die one after the other.
    """
    planner = _Planner(request)

    def plan_all(some: Iterable[str]) -> Iterator[Planned | None]:
        return _give_up_when_all_die(planner.plan(some))

    yield from try_again_later(plan_all, uris, outage_timeout_s=request.outage_timeout_s)


def spread_over_ray(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """`map` of a picklable function in Ray tasks: answers in order, of which a bounded number is made ahead.

    Raises what the function raises; WorkerError when a task cannot run, or dies several times.
    """
    task: Any = ray.remote(**_BESIDE_ACTORS)(_call)
    with closing(_run_in_order(lambda item: task.remote(function, item), items)) as answers:
        for arrived in answers:
            if arrived is None:
                continue
            try:
                answer = _get(arrived[1])
            except _DIED as error:
                raise WorkerError(f"a task died several times: {str(error).splitlines()[0]}") from error
            if isinstance(answer, Raised):
                raise answer.original or WorkerError(f"{answer.error}: {answer.message}")
            yield answer


class _Planner:
    """Plans batches of videos in tasks; one that dies is taken apart, to find out which video it was."""

    def __init__(self, request: PlanRequest) -> None:
        self._request, self._stored = request, stored_plans(request)
        self._task = ray.remote(max_retries=0, **_BESIDE_ACTORS)(_plan_videos)
        self._here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)

    def plan(self, uris: Iterable[str]) -> Iterator[Planned | None]:
        with closing(_run_in_order(self._submit, _batches(uris, VIDEOS_PER_TASK))) as answers:
            for arrived in answers:
                if arrived is None:
                    yield None
                    continue
                try:
                    yield from self._receive(arrived[1])
                except _DIED:
                    for uri in arrived[0]:
                        yield from self._plan_alone(uri)

    def _plan_alone(self, uri: str) -> list[Planned]:
        for attempt in (1, 2):
            try:
                return self._receive(self._submit([uri]), timeout_s=TASK_TIMEOUT_S)
            except _DIED as error:
                if attempt == 2:
                    return [_died(uri, error)]
        raise AssertionError("the second attempt returns")

    def _submit(self, uris: list[str]) -> Any:
        is_local = any(uri is not None and local_path(uri) is not None for uri in (self._request.out, *uris))
        task = self._task.options(scheduling_strategy=self._here) if is_local else self._task
        return task.remote(self._request, uris, frozenset(filter(self._stored.__contains__, map(video_id, uris))))

    def _receive(self, reference: Any, timeout_s: float = 0.0) -> list[Planned]:
        answer = _get(reference, timeout_s=timeout_s)
        if isinstance(answer, Raised):
            raise answer.original or WorkerError(f"planning went wrong: {answer.error}: {answer.message}")
        return answer


def _died(uri: str, error: RayError) -> Planned:
    late = isinstance(error, GetTimeoutError)
    reason = f"planning took more than {TASK_TIMEOUT_S:g} s" if late else "planning it killed its process"
    message = f"{redact_uri(uri)}: {reason}, twice; the file may be damaged, try: ffmpeg -i IN -c copy OUT.mkv"
    return failed_video(uri, error=WorkerError.__name__, message=message, attempts=2)


def _run_in_order(
    submit: Callable[[Item], Any], items: Iterable[Item]
) -> Generator[tuple[Item, Any] | None, None, None]:
    """(item, reference of its answer) in order, each when the answer is there or late; a bounded number ahead.

    None: for `LOOK_EVERY_S` no task ended.
    """
    num_tasks = max(2, min(MOST_TASKS, int(ray.cluster_resources().get("CPU", 0)) // CPUS_PER_TASK))
    iterator = iter(items)
    waiting: deque[tuple[Item, Any, float]] = deque()
    running: list[Any] = []
    try:
        while ray.is_initialized():  # else a further call would start a cluster of its own
            for item in islice(
                iterator, max(0, min(num_tasks - len(running), ANSWERS_AHEAD * num_tasks - len(waiting)))
            ):
                waiting.append((item, submit(item), time.monotonic()))
                running.append(waiting[-1][1])
            if not waiting:
                return
            item, reference, since_s = waiting[0]
            if reference in running and time.monotonic() - since_s < TASK_TIMEOUT_S:
                done, running = ray.wait(running, num_returns=1, timeout=LOOK_EVERY_S)
                if not done:
                    yield None
                continue
            running = [other for other in running if other != reference]
            waiting.popleft()
            yield item, reference
    finally:
        for _, reference, _ in waiting if ray.is_initialized() else ():
            ray.cancel(reference, force=True)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _get(reference: Any, *, timeout_s: float = 0.0) -> Any:
    """What a task returned. Raises one of `_DIED` for a dead or late one, WorkerError where it could not run."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except GetTimeoutError:
        ray.cancel(reference, force=True)
        raise
    except _DIED:
        raise
    except RayTaskError as error:  # before the function ran: our package is missing there, or another version
        raise WorkerError(f"a task could not run: {error.cause!r}; is gsvnet installed alike on all nodes?") from error
    except RayError as error:
        raise WorkerError(f"a task could not run: {str(error).splitlines()[0]}") from error


def _give_up_when_all_die(answers: Iterable[Planned | None]) -> Iterator[Planned | None]:
    """The same; raises WorkerError where so many videos in a row killed their process that it is no video's fault."""
    num_deaths = 0
    for planned in answers:
        if planned is None:
            yield None
            continue
        failure = planned.failure
        died = failure is not None and failure.error == WorkerError.__name__
        num_deaths = num_deaths + 1 if died else 0
        if failure is not None and num_deaths >= MOST_DEATHS_IN_A_ROW:
            raise WorkerError(f"{num_deaths} planning tasks in a row died; the last: {failure.message}")
        yield planned


def _plan_videos(request: PlanRequest, uris: list[str], stored: frozenset[str]) -> list[Planned] | Raised:
    """In a task. Errors of no video come back as data: exceptions of other packages need not survive pickling."""

    def plan(uri: str) -> Planned:
        return plan_one(request, uri, stored)

    try:
        with limited_memory(PLANNING_BYTES):
            planned = list(in_order(plan, uris, THREADS_PER_TASK, len(uris)))
            return [plan(video.uri) if video.is_short_of_memory else video for video in planned]
    except Exception as error:
        return describe_error(error, traceback=traceback.format_exc())


def _call(function: Callable[[Item], Answer], item: Item) -> Answer | Raised:
    try:
        return function(item)
    except Exception as error:
        return describe_error(error, traceback=traceback.format_exc())
