"""The speed of an actor, measured where the actors will run: the driver's node may have no GPU."""

from __future__ import annotations

import ray

from gsvnet.labeling.forecast import Speed, Trial, measure_speeds
from gsvnet.labeling.ray.actor import choose_device
from gsvnet.labeling.ray.measuring import measure_in_task
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.process import keep_freed_memory, yield_idle_cores

MEASURING_S = 900.0  # beside the time until there is a place


def measure_on_ray(trial: Trial, model: VideoSegmenter, options: RayOptions) -> list[Speed]:
    """`measure_speeds` in a task. Raises as `measure_in_task`."""
    return measure_in_task(
        _measure,
        trial,
        model,
        options,
        options=options,
        limit_s=MEASURING_S,
        what="the speed of an actor",
        remedy="--no-calibrate plans without it",
    )


def _measure(trial: Trial, model: VideoSegmenter, options: RayOptions) -> list[Speed]:
    yield_idle_cores()
    keep_freed_memory()
    return measure_speeds(trial, model, choose_device(options.device, has_gpu=bool(ray.get_gpu_ids())))
