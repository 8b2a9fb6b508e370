"""Train a keyframe network on labelled stills: one readable loop, resumable, seeded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.errors import ConfigError
from gsvnet.models.segmenter import Normalise
from gsvnet.training import parallel
from gsvnet.training.checks import LabelLoss
from gsvnet.training.hold_out import score_stills
from gsvnet.training.losses import StillLoss
from gsvnet.training.schedule import check_recipe, cosine_with_warmup, make_optimiser, set_rates
from gsvnet.training.state import append_log, cut_log, load_state, save_state
from gsvnet.training.stills import Stills, batches_of_views, class_weights
from gsvnet.training.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class KeyframeTraining:
    """One training run. crop: (height, width) in pixels. scales: zoom range of the views. keyframe_scale: at how many
    times their size held-out stills are read when they are scored.

    learning_rate: the optimiser's peak; linear warm-up over `warmup_steps`, then cosine to zero. ema_decay: of the
    weight average that is kept as the result. weight_temper: of `class_weights`; larger counts classes more equally.
    distillation: how much the divergence from a teacher counts beside cross-entropy, per pixel. loss: "cross-entropy"
    (with class weights) or "ohem" (of hard pixels, without). optimiser: as in `make_optimiser`. precision: "bf16"
    (autocast) or "fp32". batch_size: of all processes together.
    """

    epochs: int = 100
    batch_size: int = 8
    crop: tuple[int, int] = (320, 416)
    scales: tuple[float, float] = (0.6, 1.8)
    keyframe_scale: float = 1.0
    learning_rate: float = 8e-4
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    ema_decay: float = 0.998
    weight_temper: float = 1.1
    distillation: float = 1.0
    loss: LabelLoss = "cross-entropy"
    optimiser: str = "adamw"
    precision: str = "bf16"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ConfigError(f"epochs {self.epochs} and batch_size {self.batch_size}: at least 1 and 2")
        check_recipe(self.optimiser, self.precision)


def train_keyframe(
    net: nn.Module,
    stills: Stills,
    *,
    num_classes: int,
    normalise: Normalise,
    config: KeyframeTraining,
    folder: Path,
    device: str = "cpu",
    on_epoch: Callable[[dict], None] = lambda record: None,
    on_save: Callable[[int, nn.Module], None] = lambda epoch, average: None,
    teacher: Teacher | None = None,
    unlabelled: Sequence[Stills] = (),
    held_out: Stills | None = None,
) -> nn.Module:
    """The exponential average of `net` after training; also kept in `folder`/state.pt after every epoch.

    Logits are resized to the view (half-pixel convention) and meet class-weighted cross-entropy, 255 ignored; with a
    teacher also its soft labels of the same view. unlabelled: stills whose labels are all 255, for the teacher alone.
    held_out: stills that the average is scored on after every epoch, as `held_out_miou` (0..1) of its record.
    A rerun with the same folder goes on after the last finished epoch. One JSON line per epoch goes to
    `folder`/log.jsonl; it goes to `on_epoch` too, and the average, which is only to be looked at, to `on_save`. Raises
    ConfigError when the folder holds a run with another configuration, for less stills than one batch, and for
    unlabelled stills without a teacher.
    """
    sets = [stills, *unlabelled]
    steps_per_epoch = _count_steps(sets, config, teacher)
    if config.threads:
        torch.set_num_threads(config.threads)
    folder.mkdir(parents=True, exist_ok=True)
    net = net.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for frozen in (normalise, teacher or normalise):
        frozen.to(device)
    optimiser = make_optimiser(config.optimiser, _parameter_groups(net, config))
    run = _Run(net=net, average=deepcopy(net).eval(), optimiser=optimiser)
    first_epoch = _resume(folder, config, run)
    weights = class_weights(stills.labels, num_classes, temper=config.weight_temper).to(device)
    loss_of = parallel.share_gradients(
        StillLoss(net, weights, distillation=config.distillation, bf16=config.precision == "bf16", loss=config.loss)
    )
    for epoch in range(first_epoch, config.epochs):
        started, losses = time.monotonic(), []
        torch.manual_seed(_seed_dropout(config, epoch))
        for i, (images, targets) in enumerate(_draw_views(sets, config, epoch)):
            step = epoch * steps_per_epoch + i
            factor = cosine_with_warmup(step, config.epochs * steps_per_epoch, config.warmup_steps)
            set_rates(optimiser, [config.learning_rate * factor] * 2)
            images = images.to(device)
            loss = loss_of(normalise(images), targets.to(device), teacher and teacher(images))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            _move_average(run.average, net, min(config.ema_decay, (1 + step) / (10 + step)))
            losses.append(loss.item())
        record = {"epoch": epoch + 1, "loss": parallel.average(float(np.mean(losses)), device)}
        record |= {"seconds": time.monotonic() - started, "learning_rate": config.learning_rate * factor}
        if not parallel.is_first():
            continue
        if held_out is not None:
            score = score_stills(
                run.average, held_out, num_classes=num_classes, normalise=normalise, scale=config.keyframe_scale
            )
            record["held_out_miou"] = score
        append_log(folder, record)  # before the state: a line too many is cut on resuming, a missing one stays missing
        _save(folder, config, epoch + 1, run)
        on_epoch(record)
        on_save(epoch + 1, run.average)
    return run.average


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What changes from step to step. average: of the network's weights over time, in evaluation mode."""

    net: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer


def _count_steps(sets: Sequence[Stills], config: KeyframeTraining, teacher: Teacher | None) -> int:
    """Steps per epoch; complains where there can be none."""
    if teacher is None and len(sets) > 1:
        raise ConfigError("unlabelled stills teach nothing without a teacher")
    parallel.check_batch_size(config.batch_size)
    count = sum(map(len, sets))
    if count < config.batch_size:
        raise ConfigError(f"{count} stills do not fill one batch of {config.batch_size}; use a smaller batch")
    return count // config.batch_size


def _draw_views(sets: Sequence[Stills], config: KeyframeTraining, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of the batches of one epoch."""
    return batches_of_views(
        sets,
        batch_size=config.batch_size,
        crop=config.crop,
        scales=config.scales,
        seed=(config.seed, epoch),
        share=parallel.own_share(),
    )


def _seed_dropout(config: KeyframeTraining, epoch: int) -> int:
    """Of this process in this epoch, so that a resumed run drops what an undisturbed one drops."""
    return int(np.random.SeedSequence([config.seed, epoch, parallel.rank()]).generate_state(1)[0])


def _parameter_groups(net: nn.Module, config: KeyframeTraining) -> list[dict]:
    """Decay convolutions only; norms and biases stay free."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    free = [p for p in net.parameters() if p.ndim <= 1]
    rate = config.learning_rate
    return [
        {"params": decayed, "lr": rate, "weight_decay": config.weight_decay},
        {"params": free, "lr": rate, "weight_decay": 0.0},
    ]


@torch.no_grad()
def _move_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), net.state_dict().values()):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _resume(folder: Path, config: KeyframeTraining, run: _Run) -> int:
    """Number of finished epochs; loads their state when there is one."""
    state = load_state(folder, config)
    if state is not None:
        run.net.load_state_dict(state["net"])
        run.average.load_state_dict(state["average"])
        run.optimiser.load_state_dict(state["optimiser"])
    epoch = int(state["epoch"]) if state else 0
    if parallel.is_first():
        cut_log(folder, "epoch", epoch)
    return epoch


def _save(folder: Path, config: KeyframeTraining, epoch: int, run: _Run) -> None:
    state = {
        "epoch": epoch,
        "net": run.net.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
    }
    save_state(folder, config, state)
