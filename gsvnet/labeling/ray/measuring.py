"""A measurement where the actors will run: the driver's node may have no GPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray.options import RayOptions

LOOK_EVERY_S = 0.5

Answer = TypeVar("Answer")


def measure_in_task(
    measure: Callable[..., Answer],
    *arguments: Any,
    options: RayOptions,
    limit_s: float,
    what: str,
    remedy: str,
    stop: threading.Event | None = None,
) -> Answer:
    """What `measure(*arguments)` returns in a task with one actor's resources, whose process ends with it.

    options: with `gpus_per_actor` settled. limit_s: beside the time that an actor may take to start. what, remedy: for
    the message. stop: once set, the answer is not waited for. Raises WorkerError then, and where no place gets free in
    time or measuring goes wrong.
    """
    resources: dict[str, Any] = {"num_cpus": options.cpus_per_actor, "num_gpus": options.gpus_per_actor, "max_calls": 1}
    task = ray.remote(**resources)(measure).remote(*arguments)
    limit_s += options.actor_start_timeout_s
    deadline_s = time.monotonic() + limit_s
    cause: RayError
    try:
        while not ray.wait([task], timeout=LOOK_EVERY_S)[0] and time.monotonic() < deadline_s:
            if stop is not None and stop.is_set():
                ray.cancel(task, force=True)
                raise WorkerError(f"told to stop before {what} was measured; the same command goes on")
        return ray.get(task, timeout=0)
    except GetTimeoutError as error:
        ray.cancel(task, force=True)
        reason, cause = f"no answer within {limit_s:g} s; asked for {options.resources}", error
    except RayTaskError as error:
        reason, cause = str(error.cause), error
    except RayError as error:
        reason, cause = str(error).splitlines()[0], error
    raise WorkerError(f"{what} could not be measured: {reason}; {remedy}") from cause
