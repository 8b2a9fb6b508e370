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
from gsvnet.training.checks import ConsistencyForm, LabelLoss
from gsvnet.training.hold_out import score_stills
from gsvnet.training.keyframe_state import KeyframeRun, move_average, resume_run, save_run
from gsvnet.training.losses import StillLoss
from gsvnet.training.paired_loss import PairedLoss, SeenPairs
from gsvnet.training.pairs import PairSource, draw_pairs
from gsvnet.training.schedule import check_recipe, cosine_with_warmup, make_optimiser, set_rates
from gsvnet.training.state import append_log
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
    (autocast) or "fp32". batch_size: of all processes together, like pairs_per_step, which counts where there are pairs
    of frames. consistency, consistency_form, pair_weight, sequence_weight: of `PairedLoss`.
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
    pairs_per_step: int = 4
    consistency: float = 0.0
    consistency_form: ConsistencyForm = "sound"
    pair_weight: float = 0.0
    sequence_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ConfigError(f"epochs {self.epochs} and batch_size {self.batch_size}: at least 1 and 2")
        if self.pairs_per_step < 1:
            raise ConfigError(f"pairs_per_step {self.pairs_per_step}: at least 1")
        if min(self.consistency, self.pair_weight, self.sequence_weight) < 0:
            raise ConfigError(
                f"consistency {self.consistency}, pair_weight {self.pair_weight} and "
                f"sequence_weight {self.sequence_weight}: at least 0"
            )
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
    pairs: Sequence[tuple[PairSource, float]] = (),
) -> nn.Module:
    """The exponential average of `net` after training; also kept in `folder`/state.pt after every epoch.

    Logits are resized to the view (half-pixel convention) and meet class-weighted cross-entropy, 255 ignored; with a
    teacher also its soft labels of the same view. unlabelled: stills whose labels are all 255, for the teacher alone.
    held_out: stills that the average is scored on after every epoch, as `held_out_miou` (0..1) of its record.
    pairs: sources of pairs of frames, each with how often it is drawn, that every step learns from too (`PairedLoss`);
    the parts of that loss are in the record by name. A rerun with the same folder goes on after the last finished
    epoch. One JSON line per epoch goes to `folder`/log.jsonl; it goes to `on_epoch` too, and the average, which is only
    to be looked at, to `on_save`. Raises ConfigError when the folder holds a run with another configuration, for less
    stills than one batch, for unlabelled stills without a teacher, and for weights of pairs without pairs, or of a
    teacher's without it.
    """
    sets = [stills, *unlabelled]
    _check_pairs(pairs, config, teacher)
    steps_per_epoch = _count_steps(sets, config, teacher)
    if config.threads:
        torch.set_num_threads(config.threads)
    folder.mkdir(parents=True, exist_ok=True)
    net = net.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for frozen in (normalise, teacher or normalise):
        frozen.to(device)
    optimiser = make_optimiser(config.optimiser, _parameter_groups(net, config))
    run = KeyframeRun(net=net, average=deepcopy(net).eval(), optimiser=optimiser)
    first_epoch = resume_run(folder, config, run)
    weights = class_weights(stills.labels, num_classes, temper=config.weight_temper).to(device)
    own_loss = _make_loss(net, weights, config, paired=bool(pairs))
    loss_of = parallel.share_gradients(own_loss)
    for epoch in range(first_epoch, config.epochs):
        started, losses = time.monotonic(), []
        parallel.seed_dropout(config.seed, epoch)
        for i, (images, targets) in enumerate(_draw_views(sets, config, epoch)):
            step = epoch * steps_per_epoch + i
            factor = cosine_with_warmup(step, config.epochs * steps_per_epoch, config.warmup_steps)
            set_rates(optimiser, [config.learning_rate * factor] * 2)
            images = images.to(device)
            shown = [_see_pairs(pairs, config, (epoch, i), normalise, teacher)] if pairs else []
            scores = loss_of(normalise(images), targets.to(device), teacher and teacher(images), *shown).reshape(-1)
            optimiser.zero_grad(set_to_none=True)
            scores[0].backward()
            optimiser.step()
            move_average(run, decay=min(config.ema_decay, (1 + step) / (10 + step)))
            losses.append(scores.tolist())
        means = [parallel.average(float(np.mean(part)), device) for part in zip(*losses)]
        record = {"epoch": epoch + 1} | dict(zip(["loss", *own_loss.parts], means))
        record |= {"seconds": time.monotonic() - started, "learning_rate": config.learning_rate * factor}
        if not parallel.is_first():
            continue
        if held_out is not None:
            score = score_stills(
                run.average, held_out, num_classes=num_classes, normalise=normalise, scale=config.keyframe_scale
            )
            record["held_out_miou"] = score
        append_log(folder, record)  # before the state: a line too many is cut on resuming, a missing one stays missing
        save_run(folder, config, epoch + 1, run)
        on_epoch(record)
        on_save(epoch + 1, run.average)
    return run.average


def _count_steps(sets: Sequence[Stills], config: KeyframeTraining, teacher: Teacher | None) -> int:
    """Steps per epoch; complains where there can be none."""
    if teacher is None and len(sets) > 1:
        raise ConfigError("unlabelled stills teach nothing without a teacher")
    parallel.check_batch_size(config.batch_size)
    count = sum(map(len, sets))
    if count < config.batch_size:
        raise ConfigError(f"{count} stills do not fill one batch of {config.batch_size}; use a smaller batch")
    return count // config.batch_size


def _check_pairs(pairs: Sequence[tuple[PairSource, float]], config: KeyframeTraining, teacher: Teacher | None) -> None:
    of_teacher = config.pair_weight or config.sequence_weight
    if (config.consistency or of_teacher) and not pairs:
        raise ConfigError("consistency, pair_weight and sequence_weight need pairs of frames; there are none")
    if of_teacher and teacher is None:
        raise ConfigError("pair_weight and sequence_weight: what a teacher says is learned; there is none")
    if pairs:
        parallel.check_batch_size(config.pairs_per_step)


def _make_loss(net: nn.Module, weights: Tensor, config: KeyframeTraining, *, paired: bool) -> StillLoss | PairedLoss:
    stills = StillLoss(
        net, weights, distillation=config.distillation, bf16=config.precision == "bf16", loss=config.loss
    )
    if not paired:
        return stills
    return PairedLoss(
        stills,
        consistency=config.consistency,
        consistency_form=config.consistency_form,
        pair_weight=config.pair_weight,
        sequence_weight=config.sequence_weight,
        seed=config.seed,
    ).to(weights.device)


def _see_pairs(
    sources: Sequence[tuple[PairSource, float]],
    config: KeyframeTraining,
    step: tuple[int, int],
    normalise: Normalise,
    teacher: Teacher | None,
) -> SeenPairs:
    """This process's share of the pairs of a step. step: its epoch, and its number in the epoch."""
    drawn = draw_pairs(
        sources,
        config.pairs_per_step,
        crop=config.crop,
        scales=config.scales,
        seed=(config.seed, step[0], 0, 1 + step[1]),
        share=parallel.own_share(),
    )
    images, flow = (x.to(normalise.mean.device) for x in (drawn.images, drawn.flow))
    return SeenPairs(pixels=normalise(images), flow=flow, teacher=None if teacher is None else teacher(images))


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


def _parameter_groups(net: nn.Module, config: KeyframeTraining) -> list[dict]:
    """Decay convolutions only; norms and biases stay free."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    free = [p for p in net.parameters() if p.ndim <= 1]
    rate = config.learning_rate
    return [
        {"params": decayed, "lr": rate, "weight_decay": config.weight_decay},
        {"params": free, "lr": rate, "weight_decay": 0.0},
    ]
