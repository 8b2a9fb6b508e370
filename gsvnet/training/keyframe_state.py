"""What changes while a keyframe network is trained, kept after every epoch so that a killed run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from gsvnet.training import parallel
from gsvnet.training.state import cut_log, load_state, save_state

if TYPE_CHECKING:
    from gsvnet.training.keyframe import KeyframeTraining


@dataclass(frozen=True, kw_only=True)
class KeyframeRun:
    """What changes from step to step. average: of the network's weights over time, in evaluation mode."""

    net: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer


@torch.no_grad()
def move_average(run: KeyframeRun, *, decay: float) -> None:
    """Bring the average a little nearer to the network, in place: by 1 - decay."""
    for kept, new in zip(run.average.state_dict().values(), run.net.state_dict().values()):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def resume_run(folder: Path, config: KeyframeTraining, run: KeyframeRun) -> int:
    """Number of finished epochs; loads their state when there is one, and cuts the log back to it."""
    state = load_state(folder, config)
    if state is not None:
        run.net.load_state_dict(state["net"])
        run.average.load_state_dict(state["average"])
        run.optimiser.load_state_dict(state["optimiser"])
    epoch = int(state["epoch"]) if state else 0
    if parallel.is_first():
        cut_log(folder, "epoch", epoch)
    return epoch


def save_run(folder: Path, config: KeyframeTraining, epoch: int, run: KeyframeRun) -> None:
    """Write `folder`/state.pt after an epoch; epoch: how many are finished."""
    state = {
        "epoch": epoch,
        "net": run.net.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
    }
    save_state(folder, config, state)
