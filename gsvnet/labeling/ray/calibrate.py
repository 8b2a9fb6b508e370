"""The batch size measured where the actors will run: the driver's node may have no GPU."""

from __future__ import annotations

import threading

import ray

from gsvnet.labeling.calibrate import Calibration, measure_batch_chunks
from gsvnet.labeling.ray.actor import choose_device
from gsvnet.labeling.ray.measuring import measure_in_task
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.models.segmenter import VideoSegmenter

MEASURING_S = 300.0  # beside the time until a GPU is free


def measure_on_gpu(
    model: VideoSegmenter, calibration: Calibration, options: RayOptions, *, stop: threading.Event | None = None
) -> int:
    """`measure_batch_chunks` in a task. Raises as `measure_in_task`."""
    return measure_in_task(
        _measure,
        model,
        calibration,
        options,
        options=options,
        limit_s=MEASURING_S,
        what="the batch size on a GPU of the cluster",
        remedy="give it with --batch-chunks",
        stop=stop,
    )


def _measure(model: VideoSegmenter, calibration: Calibration, options: RayOptions) -> int:
    choose_device(options.device, has_gpu=bool(ray.get_gpu_ids()))  # refuses a GPU that torch does not see
    return measure_batch_chunks(model, calibration)
