"""The Ray actor: a worker, and what an actor alone knows (its GPU, its node). It decides nothing."""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from typing import Any

import ray

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray.events import ActorReport
from gsvnet.labeling.ray.options import DeviceChoice
from gsvnet.labeling.ray.same_code import own_code
from gsvnet.labeling.tasks import Device, Raised, ShardResult, ShardTask, Worker, WorkerSpec, describe_error
from gsvnet.process import keep_freed_memory, yield_idle_cores


class ShardActor:
    """Holds one worker. Exceptions come back as data (`Raised`); only a dead process raises at the driver."""

    def __init__(self) -> None:
        yield_idle_cores()
        keep_freed_memory()
        self._worker: Worker | None = None
        self._node, self._gpu = ray.util.get_node_ip_address(), ",".join(map(str, ray.get_gpu_ids()))

    def start(self, spec: WorkerSpec, weights: Any, *, choice: DeviceChoice, num_threads: int) -> ActorReport | Raised:
        """Build the worker; report what was built and where."""
        try:
            device = choose_device(choice, has_gpu=bool(self._gpu))
            self._worker = spec.build(weights, device=device, num_threads=num_threads)
            return ActorReport(
                model_hash=self._worker.model_hash,
                device=device,
                device_name=_device_name(device),
                node_id=ray.get_runtime_context().get_node_id(),
                node_ip=self._node,
                pid=os.getpid(),
                gpu=self._gpu,
                notes=self._worker.notes,
                code=own_code(),
            )
        except Exception as error:
            return describe_error(error, traceback=traceback.format_exc())

    @ray.method(concurrency_group="status")
    def frames_done(self) -> int:
        """Frames of the running shard that are labeled already; answered while `start` or `run` is at work."""
        return getattr(self._worker, "frames_done", 0)

    @ray.method(concurrency_group="hints")
    def prepare(self, task: ShardTask) -> None:
        """Hear of the shard that was handed over behind the running one."""
        if self._worker is not None:
            self._worker.prepare(task)

    def run(self, task: ShardTask) -> ShardResult | Raised:
        """Label one shard."""
        assert self._worker is not None, "start comes first"
        try:
            return replace(self._worker(task), node=self._node, gpu=self._gpu)
        except Exception as error:
            return describe_error(error, traceback=traceback.format_exc(), task=task)


def choose_device(choice: DeviceChoice, *, has_gpu: bool) -> Device:
    """Where an actor computes. Raises WorkerError where CUDA is due and not there: it never falls back silently."""
    if choice == "cpu" or (choice == "auto" and not has_gpu):
        return "cpu"
    if not has_gpu:
        raise WorkerError("--device cuda, but Ray gave this actor no GPU; set --gpus-per-actor above 0")
    import torch

    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
        raise WorkerError(
            f"this actor was given a GPU (CUDA_VISIBLE_DEVICES={visible}) but torch {torch.__version__} sees no CUDA; "
            "check the driver and the torch build on the node, or pass --device cpu"
        )
    return "cuda"


def _device_name(device: Device) -> str:
    if device == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()
