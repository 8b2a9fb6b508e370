"""What a training keeps in its folder, so that a killed run goes on where it was: state.pt and log.jsonl."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from gsvnet.errors import ConfigError
from gsvnet.training import parallel

if TYPE_CHECKING:
    from gsvnet.training.arseg import ArsegTraining
    from gsvnet.training.keyframe import KeyframeTraining
    from gsvnet.training.propagation import PropagationTraining
    from gsvnet.training.tdnet import TdnetTraining

    Training: TypeAlias = KeyframeTraining | PropagationTraining | ArsegTraining | TdnetTraining


def save_state(folder: Path, config: Training, state: dict) -> None:
    """Write `folder`/state.pt, the old one or the new one at any moment: the entries of `state`, and the config."""
    unfinished = folder / ".state.pt"
    torch.save({"config": asdict(config), **state}, unfinished)
    unfinished.replace(folder / "state.pt")


def load_state(folder: Path, config: Training) -> dict | None:
    """What `save_state` wrote last, on the CPU; None where nothing was. The number of threads may change.

    Raises ConfigError, naming what differs, when it belongs to a run with another configuration.
    """
    path = folder / "state.pt"
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes the restricted unpickler raise
        raise ConfigError(f"{path} is no state of a training; remove it, and the training starts anew") from error
    wanted = asdict(config)
    found = asdict(type(config)()) | state["config"]  # options that the state is older than had their default's effect
    differ = [
        f"{name} {found.get(name)!r}, not {wanted.get(name)!r}"
        for name in sorted({*wanted, *found} - {"threads"})
        if found.get(name) != wanted.get(name)
    ]
    if differ:
        raise ConfigError(f"{folder} holds a run with another configuration ({'; '.join(differ)}); use another folder")
    return state


@dataclass
class Progress:
    """How far a run of steps is. losses: one entry per step, a number or the numbers of its parts, since the last
    logged one. seconds: spent so far, over all attempts."""

    step: int = 0
    losses: list[Any] = field(default_factory=list)
    seconds: float = 0.0


def save_progress(
    folder: Path,
    config: Training,
    progress: Progress,
    *,
    name: str,
    trained: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write `folder`/state.pt of a run of steps. name: of the entry for the weights of `trained`."""
    state = asdict(progress) | {name: trained.state_dict(), "optimiser": optimiser.state_dict()}
    save_state(folder, config, state)


def resume_progress(
    folder: Path, config: Training, *, name: str, trained: nn.Module, optimiser: torch.optim.Optimizer
) -> Progress:
    """How far the run of steps is; loads what `save_progress` wrote, where it did, and cuts the log back to it."""
    state, progress = load_state(folder, config), Progress()
    if state is not None:
        trained.load_state_dict(state[name])
        optimiser.load_state_dict(state["optimiser"])
        progress = Progress(step=state["step"], losses=state["losses"], seconds=state["seconds"])
    if parallel.is_first():
        cut_log(folder, "step", progress.step)
    return progress


def append_log(folder: Path, record: dict) -> None:
    """Add one JSON line to `folder`/log.jsonl."""
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(record) + "\n")


def cut_log(folder: Path, key: str, last: int) -> None:
    """Drop what was logged after the state that a run goes on from: lines with `key` beyond `last`, or cut short."""
    path, unfinished = folder / "log.jsonl", folder / ".log.jsonl"
    if path.exists():
        whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        unfinished.write_text("".join(line for line in whole if json.loads(line)[key] <= last))
        unfinished.replace(path)
