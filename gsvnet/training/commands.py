"""`gsvnet train`: gather the material, train, and write one checkpoint that says how it was made."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import torch
from rich.console import Console

from gsvnet.evaluation.commands import choose_device
from gsvnet.models.checkpoints import keyframe_hash, read_notes, save_checkpoint
from gsvnet.models.spec import describe_model
from gsvnet.training import parallel
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.arseg_run import run_arseg_training
from gsvnet.training.keyframe import KeyframeTraining, train_keyframe
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.material import count_targets, gather_clips, gather_stills
from gsvnet.training.notes import check_keyframe, claim_folder, describe_keyframe, describe_training, find_folder
from gsvnet.training.pair_sources import gather_pairs
from gsvnet.training.pictures import draw_stills, pick_stills
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.propagation_run import run_training
from gsvnet.training.record import TrainingRecord
from gsvnet.training.start import drop_auxiliary_heads, start_keyframe_network, start_propagation
from gsvnet.training.tdnet_config import TrainTdnetConfig
from gsvnet.training.tdnet_run import run_tdnet_training
from gsvnet.training.teacher import load_teacher

TrainConfig = TrainKeyframeConfig | TrainPropagationConfig | TrainArsegConfig | TrainTdnetConfig


def train(config: TrainConfig, *, console: Console | None = None) -> None:
    """Train what `config` says and write `config.out`. console: where progress is shown; default: nowhere.

    A rerun of the same command goes on where the last one stopped. Raises ConfigError, before training starts, for
    missing or wrong files and for a folder that belongs to another command.
    """
    with parallel.join_processes(choose_device(config.device)) as device:
        if console is None or not parallel.is_first():
            console = Console(quiet=True)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        if isinstance(config, TrainKeyframeConfig):
            _train_keyframe(config, device, console)
        elif isinstance(config, TrainArsegConfig):
            run_arseg_training(config, device, console)
        elif isinstance(config, TrainTdnetConfig):
            run_tdnet_training(config, device, console)
        else:
            _train_propagation(config, device, console)
        console.print(f"wrote {config.out}; use it with --model {config.out}")


def _train_keyframe(config: TrainKeyframeConfig, device: str, console: Console) -> None:
    model, folder = start_keyframe_network(config), find_folder(config)
    material = gather_stills(config, model.size_rule, console.print)
    pairs = gather_pairs(config, [material.stills, *material.unlabelled], model.size_rule, console.print)
    data = [*material.data, *pairs.data]
    teacher = None
    if config.teacher is not None:
        rows, columns = material.stills.labels.shape[-2:]
        teacher = load_teacher(config.teacher, model.classes, model.size_rule.keyframe_size(rows, columns))
    training = KeyframeTraining(
        epochs=config.epochs,
        batch_size=config.batch_size,
        crop=config.crop_size,
        scales=config.scales,
        keyframe_scale=config.keyframe_scale,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        weight_temper=config.weight_temper,
        distillation=config.distillation,
        loss=config.loss,
        optimiser=config.optimiser,
        warmup_steps=config.warmup_steps,
        precision=config.precision,
        seed=config.seed,
        threads=config.threads,
        pairs_per_step=config.pairs_per_step,
        consistency=config.consistency,
        consistency_form=config.consistency_form,
        pair_weight=config.pair_weight,
        sequence_weight=config.sequence_weight,
    )
    record: TrainingRecord[torch.nn.Module] = TrainingRecord(
        folder,
        unit="epoch",
        total=config.epochs,
        title=_title(config),
        console=console,
        draw=partial(draw_stills, stills=pick_stills(material.held_out or material.stills), model=model),
    )
    claim_folder(folder, config)
    with record if parallel.is_first() else nullcontext():
        network = train_keyframe(
            model.net,
            material.stills,
            num_classes=len(model.classes),
            normalise=model.normalise,
            config=training,
            folder=folder,
            device=device,
            teacher=teacher,
            unlabelled=material.unlabelled,
            held_out=material.held_out,
            pairs=pairs.sources,
            on_epoch=record.add,
            on_save=record.look,
        )
    drop_auxiliary_heads(network)
    model.net = network
    family = describe_model(model).family
    notes = describe_training(config, f"{family} trained on {', '.join(data)}", data)
    if config.teacher is not None:
        notes["teacher"] = read_notes(config.teacher)[1]
    if parallel.is_first():
        save_checkpoint(config.out, model, notes=notes)


def _train_propagation(config: TrainPropagationConfig, device: str, console: Console) -> None:
    model, folder = start_propagation(config), find_folder(config)
    sha256 = keyframe_hash(model)
    check_keyframe(folder, sha256)
    model.eval().to(device)
    material = gather_clips(config, model, console.print)
    run_training(
        model,
        [(part.clips, part.share) for part in material.parts],
        targets=count_targets(material.parts),
        samples=material.samples(),
        held_out=material.held_out,
        config=config,
        folder=folder,
        keyframe_sha256=sha256,
        title=_title(config),
        device=device,
        console=console,
    )
    summary = f"{describe_model(model).family}, propagation trained on {', '.join(material.data)}"
    notes = describe_training(config, summary, material.data)
    notes["keyframe"] = describe_keyframe(config.keyframe, sha256)
    if parallel.is_first():
        save_checkpoint(config.out, model, notes=notes)


def _title(config: TrainConfig) -> str:
    return f"{config.out.name}: {'held-out part' if config.hold_out else 'training material'}"
