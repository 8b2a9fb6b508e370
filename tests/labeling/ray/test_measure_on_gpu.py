from __future__ import annotations

import threading

import pytest
import torch

from gsvnet.errors import WorkerError
from gsvnet.labeling.calibrate import Calibration
from gsvnet.labeling.ray import calibrate
from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.options import RayOptions

CALIBRATION = Calibration(height=72, width=96, keyframe_interval=3, precision="fp32")


@pytest.mark.slow
def test_a_cluster_without_a_free_gpu_is_named_and_so_is_the_way_out(monkeypatch):
    monkeypatch.setattr(calibrate, "MEASURING_S", 1.0)
    options = RayOptions(gpus_per_actor=1.0, actor_start_timeout_s=1.0)
    with connect(num_gpus=0), pytest.raises(WorkerError) as refused:
        calibrate.measure_on_gpu("weights", CALIBRATION, options)
    for words in ("no answer within 2 s", "(1 GPU, 2 CPU)", "give it with --batch-chunks"):
        assert words in str(refused.value)


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_does_not_wait_for_a_gpu():
    stop = threading.Event()
    stop.set()
    with connect(num_gpus=0), pytest.raises(WorkerError, match="told to stop before the batch size"):
        calibrate.measure_on_gpu("weights", CALIBRATION, RayOptions(gpus_per_actor=1.0), stop=stop)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_gpu_that_torch_does_not_see_is_an_error_of_its_node():
    with connect(min_cpus=2, num_gpus=1), pytest.raises(WorkerError, match="sees no CUDA"):
        calibrate.measure_on_gpu("weights", CALIBRATION, RayOptions(gpus_per_actor=1.0))
