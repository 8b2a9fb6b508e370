"""The batch size measured where the actors will run: the driver's node may have no GPU."""

from __future__ import annotations

import threading
import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from gsvnet.errors import WorkerError
from gsvnet.labeling.calibrate import Calibration, measure_batch_chunks
from gsvnet.labeling.ray.actor import choose_device
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.models.segmenter import VideoSegmenter

MEASURING_S = 300.0  # beside the time until a GPU is free
LOOK_EVERY_S = 0.5

_PROBLEM = "the batch size could not be measured on a GPU of the cluster"
_REMEDY = "give it with --batch-chunks"


def measure_on_gpu(
    model: VideoSegmenter, calibration: Calibration, options: RayOptions, *, stop: threading.Event | None = None
) -> int:
    """`measure_batch_chunks` in a task with one actor's resources; its process ends with it and frees the GPU.

    options: with `gpus_per_actor` settled. stop: once set, the answer is not waited for. Raises WorkerError then, and
    where no GPU gets free in time or measuring goes wrong.
    """
    resources: dict[str, Any] = {"num_cpus": options.cpus_per_actor, "num_gpus": options.gpus_per_actor, "max_calls": 1}
    task = ray.remote(**resources)(_measure).remote(model, calibration, options)
    try:
        deadline_s = time.monotonic() + options.actor_start_timeout_s + MEASURING_S
        while not ray.wait([task], timeout=LOOK_EVERY_S)[0] and time.monotonic() < deadline_s:
            if stop is not None and stop.is_set():
                ray.cancel(task, force=True)
                raise WorkerError("told to stop while the batch size was being measured; the same command goes on")
        return ray.get(task, timeout=0)
    except GetTimeoutError as error:
        ray.cancel(task, force=True)
        reason = f"no answer within {options.actor_start_timeout_s + MEASURING_S:g} s; asked for {options.resources}"
        raise WorkerError(f"{_PROBLEM}: {reason}; {_REMEDY}") from error
    except RayTaskError as error:
        raise WorkerError(f"{_PROBLEM}: {error.cause}; {_REMEDY}") from error
    except RayError as error:
        raise WorkerError(f"{_PROBLEM}: {str(error).splitlines()[0]}; {_REMEDY}") from error


def _measure(model: VideoSegmenter, calibration: Calibration, options: RayOptions) -> int:
    choose_device(options.device, has_gpu=bool(ray.get_gpu_ids()))  # refuses a GPU that torch does not see
    return measure_batch_chunks(model, calibration)
