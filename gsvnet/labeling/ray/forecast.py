"""The speed of an actor, measured where the actors will run: the driver's node may have no GPU."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from gsvnet.errors import WorkerError
from gsvnet.labeling.forecast import Speed, Trial, measure_speeds
from gsvnet.labeling.ray.actor import choose_device
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.process import keep_freed_memory, yield_idle_cores

MEASURING_S = 900.0  # beside the time until there is a place

_PROBLEM = "the speed of an actor could not be measured"
_REMEDY = "--no-calibrate plans without it"


def measure_on_ray(trial: Trial, model: VideoSegmenter, options: RayOptions) -> list[Speed]:
    """`measure_speeds` in a task with one actor's resources; its process ends with it.

    options: with `gpus_per_actor` settled. Raises WorkerError where no place gets free in time or measuring goes wrong.
    """
    resources: dict[str, Any] = {"num_cpus": options.cpus_per_actor, "num_gpus": options.gpus_per_actor, "max_calls": 1}
    answer = ray.remote(**resources)(_measure).remote(trial, model, options)
    timeout_s = options.actor_start_timeout_s + MEASURING_S
    try:
        return ray.get(answer, timeout=timeout_s)
    except GetTimeoutError as error:
        ray.cancel(answer, force=True)
        reason = f"no answer within {timeout_s:g} s; asked for {options.resources}"
        raise WorkerError(f"{_PROBLEM}: {reason}; {_REMEDY}") from error
    except RayTaskError as error:
        raise WorkerError(f"{_PROBLEM}: {error.cause}; {_REMEDY}") from error
    except RayError as error:
        raise WorkerError(f"{_PROBLEM}: {str(error).splitlines()[0]}; {_REMEDY}") from error


def _measure(trial: Trial, model: VideoSegmenter, options: RayOptions) -> list[Speed]:
    yield_idle_cores()
    keep_freed_memory()
    return measure_speeds(trial, model, choose_device(options.device, has_gpu=bool(ray.get_gpu_ids())))
