"""Several processes that train one network together, one per GPU, as `torchrun --nproc-per-node N -m jobs.train ...`
starts them. Without torchrun everything here does nothing.

A step's batch is divided among the processes, so a recipe means the same on any number of GPUs: each process makes its
share of the views or clips, and the gradients are averaged (`DistributedDataParallel`). Batch norms see the share of
their own process; their running averages are those of process 0, sent to the others before every step. Process 0 alone
writes and reports.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gsvnet.errors import ConfigError


@contextmanager
def join_processes(device: str) -> Iterator[str]:
    """This process's own device, "cpu" or "cuda:N", while it is one of those that torchrun started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()


def num_processes() -> int:
    """How many train together; 1 without torchrun."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 without torchrun."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes and reports."""
    return rank() == 0


def own_share() -> slice:
    """Which places of a batch this process fills."""
    return slice(rank(), None, num_processes())


def seed_dropout(seed: int, step: int) -> None:
    """Seed what this process drops in a step (or epoch), so that a resumed run drops what an undisturbed one drops."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank()]).generate_state(1)[0]))


def check_batch_size(batch_size: int) -> None:
    """Raises ConfigError for a batch that cannot be divided equally."""
    if batch_size % num_processes():
        raise ConfigError(f"batch size {batch_size} cannot be divided equally among {num_processes()} processes")


def share_gradients(loss_of: nn.Module) -> nn.Module:
    """A module whose forward returns a loss, with gradients that are averaged over all processes.

    Every parameter that asks for a gradient takes part in the loss.
    """
    return loss_of if num_processes() == 1 else DistributedDataParallel(loss_of)


def average(value: float, device: str) -> float:
    """Mean of each process's value, the same in all of them."""
    if num_processes() == 1:
        return value
    total = torch.tensor(value, device=device, dtype=torch.float64)
    torch.distributed.all_reduce(total)
    return float(total) / num_processes()


def wait_for_all() -> None:
    """Come back when every process is here."""
    if num_processes() > 1:
        torch.distributed.barrier()
