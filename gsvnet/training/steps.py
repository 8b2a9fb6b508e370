"""The loop of a training that counts steps: rates, gradients, log, state. Each training says what one step costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.training import parallel
from gsvnet.training.schedule import cosine_with_warmup, set_rates
from gsvnet.training.state import append_log, resume_progress, save_progress

if TYPE_CHECKING:
    from gsvnet.training.state import Training

LOG_EVERY = 20  # steps


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run of steps goes through.

    name: of the entry of state.pt for the weights of `trained`, which is everything that learns. peaks: learning rates
    of the optimiser's groups, and `rate`, the one that is logged: linear warm-up over `warmup_steps`, then cosine to
    zero. parts: of the loss, by their names in the log, and how much each counts.
    """

    folder: Path
    config: Training
    name: str
    trained: nn.Module
    optimiser: torch.optim.Optimizer
    peaks: Sequence[float]
    rate: float
    steps: int
    warmup_steps: int
    parts: Mapping[str, float]
    log_every: int = LOG_EVERY
    save_every: int = 100
    device: str = "cpu"


def run_steps(
    course: Course,
    loss_at: Callable[[int], Tensor],
    *,
    score: Callable[[], Mapping[str, float]] | None = None,
    on_step: Callable[[dict], None] = lambda record: None,
    on_save: Callable[[int], None] = lambda step: None,
) -> None:
    """Train in place, from where `course.folder` says that the run is, up to its end.

    loss_at: the parts of the loss at a step, in the order of `course.parts`; what it draws follows from the step. One
    JSON line per `log_every` steps, and one at the end, goes to log.jsonl and to `on_step`. Every `save_every` steps
    and at the end the run is kept in state.pt, and `on_save` may look. score: more entries for a record, whenever the
    run is both logged and kept. Raises ConfigError when the folder holds a run with another configuration.
    """
    state = {"name": course.name, "trained": course.trained, "optimiser": course.optimiser}
    progress = resume_progress(course.folder, course.config, **state)  # type: ignore[arg-type]
    weights = torch.tensor(list(course.parts.values()), device=course.device)
    course.trained.train()
    started = time.monotonic() - progress.seconds
    for step in range(progress.step, course.steps):
        factor = cosine_with_warmup(step, course.steps, course.warmup_steps)
        set_rates(course.optimiser, [peak * factor for peak in course.peaks])
        parts = loss_at(step).reshape(-1)
        course.optimiser.zero_grad(set_to_none=True)
        (parts * weights).sum().backward()
        nn.utils.clip_grad_norm_(course.trained.parameters(), 5.0)
        course.optimiser.step()
        progress.losses.append([parallel.average(part, course.device) for part in parts.tolist()])
        progress.step, progress.seconds = step + 1, time.monotonic() - started
        if not parallel.is_first():
            continue
        is_last = progress.step == course.steps
        is_saved = progress.step % course.save_every == 0 or is_last
        if progress.step % course.log_every == 0 or is_last:
            record = _summarise(progress.step, progress.losses, course.parts)
            record |= {"seconds": progress.seconds, "learning_rate": course.rate * factor}
            if score is not None and is_saved:
                record |= score()
            progress.losses.clear()
            append_log(course.folder, record)
            on_step(record)
        if is_saved:
            save_progress(course.folder, course.config, progress, **state)  # type: ignore[arg-type]
            on_save(progress.step)
            course.trained.train()


def _summarise(step: int, losses: Sequence, parts: Mapping[str, float]) -> dict:
    """A record of log.jsonl. loss: what was minimised; its parts, where there are several, are not yet weighted."""
    means = dict(zip(parts, np.mean([np.ravel(loss) for loss in losses], axis=0).tolist()))
    total = sum(parts[name] * mean for name, mean in means.items())
    return {"step": step, "loss": total} | (means if len(means) > 1 else {})
