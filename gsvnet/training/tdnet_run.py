"""`gsvnet train tdnet`: gather runs, start, train, and write one checkpoint that says how it was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from rich.console import Console
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.models.checkpoints import load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.content_hash import content_hash
from gsvnet.models.spec import describe_model
from gsvnet.models.tdnet import TDNet
from gsvnet.models.transfer import image_network_of
from gsvnet.training import parallel
from gsvnet.training.footage_runs import RunSource, VideoRuns
from gsvnet.training.notes import check_keyframe, claim_folder, describe_keyframe, describe_training, find_folder
from gsvnet.training.record import TrainingRecord
from gsvnet.training.run_material import Report, RunMaterial, gather_runs, warn_of_leak
from gsvnet.training.steps import LOG_EVERY
from gsvnet.training.stills import class_weights
from gsvnet.training.tdnet import TdnetTraining, check_turns, train_tdnet
from gsvnet.training.tdnet_config import TrainTdnetConfig
from gsvnet.training.tdnet_pictures import draw_run_labels
from gsvnet.training.tdnet_runs import RunBatch, RunRecipe, draw_runs, label_frames
from gsvnet.training.tdnet_start import find_trunk, start_gathering, start_tdnet
from gsvnet.training.teacher import Teacher, load_teacher

_HELD_OUT_RUNS, _SHOWN_RUNS, _MEASURED_RUNS = 24, 4, 64
_MEASURED_IMAGES = 24


def run_tdnet_training(config: TrainTdnetConfig, device: str, console: Console) -> None:
    """Train what `config` says and write `config.out`."""
    check_turns(config.batch_size, config.sub_networks)
    image, folder = image_network_of(load_checkpoint(config.keyframe)), find_folder(config)
    find_trunk(image, config.sub_networks)
    sha256 = content_hash(torch.nn.ModuleDict({"network": image.net, "normalise": image.normalise}))
    check_keyframe(folder, sha256)
    material = gather_runs(
        config,
        image.classes,
        num_frames=config.longest_run,
        because=f"--gap {config.gap} with --sub-networks {config.sub_networks}",
        report=console.print,
    )
    _check_crop(config, material.size)
    model = start_tdnet(
        image, num_sub_networks=config.sub_networks, size=material.size, references=config.references
    ).to(device)
    read = model.needs(*material.size).keyframe_size
    teacher = None if config.teacher is None else load_teacher(config.teacher, model.classes, read)
    sources = label_sources(config, model, material, console.print)
    recipe = choose_run_recipe(config, model, material.size)
    warn_of_leak(config, console)
    alone = replace(recipe, crop=None, num_frames=1, seed=(config.seed, 6))
    measured = draw_runs(sources, alone, 0, range(_MEASURED_RUNS))
    start_gathering(model, measured.images[:_MEASURED_IMAGES, 0].to(device))
    held_out, shown = _draw_fixed(config, recipe, material, sources)
    record: TrainingRecord[TDNet] = TrainingRecord(
        folder,
        unit="step",
        total=config.steps,
        every=LOG_EVERY,
        title=f"{config.out.name}: {'held-out part' if held_out else 'training material'}",
        console=console,
        draw=partial(draw_run_labels, runs=shown, device=device),
    )
    console.print(f"training on {', '.join(material.data)}")
    claim_folder(folder, config, keyframe_sha256=sha256)
    with record if parallel.is_first() else nullcontext():
        train_tdnet(
            model,
            sources,
            recipe=recipe,
            class_weights=class_weights(measured.targets, len(model.classes), temper=config.weight_temper),
            config=choose_recipe(config),
            folder=folder,
            teacher=teacher if config.distillation else None,
            held_out=held_out,
            on_step=record.add,
            on_save=record.look,
            device=device,
        )
    if parallel.is_first():
        _write(config, model, material.data, sha256)


def _draw_fixed(
    config: TrainTdnetConfig, recipe: RunRecipe, material: RunMaterial, sources: Sequence[tuple[RunSource, float]]
) -> tuple[RunBatch | None, RunBatch]:
    """Whole frames that are looked at again and again: the held-out runs to score, if any, and those to show."""
    whole = replace(recipe, crop=None, seed=(config.seed, 5))
    if material.held_out is None:
        return None, draw_runs(sources, whole, 0, range(_SHOWN_RUNS))
    held_out = draw_runs([(material.held_out, 1.0)], whole, 0, range(_HELD_OUT_RUNS))
    return held_out, held_out.pick(slice(_SHOWN_RUNS))


def label_sources(
    config: TrainTdnetConfig, model: TDNet, material: RunMaterial, report: Report
) -> list[tuple[RunSource, float]]:
    """The same sources, with labels of --teacher, or else of --keyframe, where nobody labelled them.

    That network reads the frames as it reads a video of their size; as a teacher it sees what the student reads.
    """
    nobodys = sum(isinstance(source, VideoRuns) and source.targets is None for source, _ in material.sources)
    label = None
    if nobodys:
        report(f"labeling {nobodys} videos with --{'keyframe' if config.teacher is None else 'teacher'}")
        expert = load_teacher(config.teacher or config.keyframe, model.classes, material.size)
        label = _labels_of(expert.to(model.normalise.mean.device), bf16=config.precision == "bf16")
    return [
        (label_frames(source, label) if isinstance(source, VideoRuns) else source, share)
        for source, share in material.sources
    ]


def _labels_of(teacher: Teacher, *, bf16: bool) -> Callable[[Tensor], Tensor]:
    def label(images: Tensor) -> Tensor:
        images = images.to(teacher.normalise.mean.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            return teacher(images.float()).argmax(1)

    return label


def choose_run_recipe(config: TrainTdnetConfig, model: TDNet, size: tuple[int, int]) -> RunRecipe:
    """How runs are drawn. size: (height, width) in pixels of the sources' frames."""
    read = model.needs(*size).keyframe_size
    return RunRecipe(
        num_frames=config.sub_networks,
        gap=config.gap,
        crop=config.crop,
        read=(read[0] / size[0], read[1] / size[1]),
        resize=model.resize,
        seed=(config.seed, 4),
    )


def choose_recipe(config: TrainTdnetConfig) -> TdnetTraining:
    """What the loop is told."""
    return TdnetTraining(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        gathering_learning_rate=config.gathering_learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        loss=config.loss,
        every_frame=config.every_frame,
        alone_weight=config.alone_weight,
        auxiliary_weight=config.auxiliary_weight,
        distillation=config.distillation,
        alone_distillation=config.alone_distillation,
        optimiser=config.optimiser,
        precision=config.precision,
        seed=config.seed,
    )


def _check_crop(config: TrainTdnetConfig, size: tuple[int, int]) -> None:
    if config.crop[0] > size[0] or config.crop[1] > size[1]:
        raise ConfigError(
            f"--crop {config.crop[0]} {config.crop[1]}: the frames have {size[0]} rows, {size[1]} columns"
        )


def _write(config: TrainTdnetConfig, model: TDNet, data: list[str], sha256: str) -> None:
    """The checkpoint; auxiliary heads are no part of the model."""
    family = describe_model(model).family
    notes = describe_training(config, f"{family} trained on {', '.join(data)}", data)
    notes["keyframe"] = describe_keyframe(config.keyframe, sha256)
    if config.teacher is not None:
        notes["teacher"] = read_notes(config.teacher)[1]
    save_checkpoint(config.out, model, notes=notes)
