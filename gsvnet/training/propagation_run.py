"""The training of a propagation as `gsvnet train propagation` and `gsvnet adapt` both run it, with bar and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from torch import Tensor

from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.training import parallel
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.clips import Clip, StillClips, VideoClips
from gsvnet.training.notes import claim_folder
from gsvnet.training.pictures import draw_clips, pick_clips
from gsvnet.training.propagation import LOG_EVERY, PropagationTraining, train_propagation
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.record import TrainingRecord
from gsvnet.training.sources import mix_by_grid
from gsvnet.training.stills import class_weights

Config = TrainPropagationConfig | AdaptConfig


def run_training(
    model: GSVNet,
    clips: Sequence[tuple[StillClips | VideoClips, float]],
    *,
    targets: Tensor,
    samples: Mapping[str, StillClips | VideoClips],
    held_out: Sequence[Clip] = (),
    config: Config,
    folder: Path,
    keyframe_sha256: str,
    title: str,
    device: str,
    console: Console,
) -> None:
    """Train the model's propagation in place, as `config` says, and claim `folder` for it.

    clips: with how often each is drawn. targets: labels that class weights are counted on. samples: what pictures are
    drawn of, by kind. held_out: as in `train_propagation`. title: of the pictures. Raises MissingExtra without
    matplotlib, before the folder is claimed.
    """
    record: TrainingRecord[Propagation] = TrainingRecord(
        folder,
        unit="step",
        total=config.steps,
        every=LOG_EVERY,
        title=title,
        console=console,
        draw=partial(draw_clips, samples=pick_clips(samples, config.frames), model=model),
    )
    claim_folder(folder, config, keyframe_sha256=keyframe_sha256)
    with record if parallel.is_first() else nullcontext():
        train_propagation(
            model.propagation,
            mix_by_grid(clips),
            normalise=model.frame_normalise,
            class_weights=class_weights(targets, len(model.classes), temper=config.weight_temper),
            held_out=held_out,
            config=choose_recipe(config),
            folder=folder,
            align_corners=model.align_corners,
            device=device,
            on_step=record.add,
            on_save=record.look,
        )


def choose_recipe(config: Config) -> PropagationTraining:
    """What the loop is told; `gsvnet adapt` has fewer options, the others are at their defaults there."""
    recipe = PropagationTraining(
        steps=config.steps,
        batch_size=config.batch_size,
        num_frames=config.frames,
        learning_rate=config.learning_rate,
        flow_learning_rate=config.flow_learning_rate,
        warmup_steps=config.warmup_steps,
        distillation=config.distillation,
        flow_supervision=config.flow_supervision,
        precision=config.precision,
        seed=config.seed,
    )
    if isinstance(config, AdaptConfig):
        return recipe
    return replace(recipe, last_steps=config.last_steps, optimiser=config.optimiser)
