"""`gsvnet train arseg`: gather runs, draw pairs, train, and write one checkpoint that says how it was made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from rich.console import Console

from gsvnet.models.arseg import ARSeg
from gsvnet.models.checkpoints import keyframe_hash, save_checkpoint
from gsvnet.models.spec import describe_model
from gsvnet.training import parallel
from gsvnet.training.arseg import LOG_EVERY, ArsegTraining, count_steps, train_arseg
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.arseg_pairs import ArsegPairs, PairRecipe, bytes_per_pair, check_memory, draw_pairs
from gsvnet.training.arseg_pictures import draw_pair_labels, pick_pairs
from gsvnet.training.arseg_start import start_arseg, start_fusion, without_fusion
from gsvnet.training.notes import check_keyframe, claim_folder, describe_keyframe, describe_training, find_folder
from gsvnet.training.record import TrainingRecord
from gsvnet.training.run_material import Report, RunMaterial, gather_runs, warn_of_leak
from gsvnet.training.stills import class_weights

_HELD_OUT_PAIRS = 48
_MEASURED_PAIRS = 64
_REPORT_EVERY = 0.1  # of the pairs


def run_arseg_training(config: TrainArsegConfig, device: str, console: Console) -> None:
    """Train what `config` says and write `config.out`."""
    model, folder = start_arseg(config), find_folder(config)
    sha256 = keyframe_hash(model)
    check_keyframe(folder, sha256)
    material = gather_runs(
        config,
        model.classes,
        num_frames=config.keyframe_interval,
        because=f"--keyframe-interval {config.keyframe_interval}",
        report=console.print,
    )
    model.to(device)
    recipe = choose_pair_recipe(config, material.size)
    check_memory(model, recipe, num_held_out=_HELD_OUT_PAIRS if material.held_out else 0)
    warn_of_leak(config, console)
    title = f"{config.out.name}: {'held-out part' if material.held_out else 'training material'}"
    held_out = _draw_held_out(model, material, config)
    console.print(
        f"drawing {config.pairs} pairs of {', '.join(material.data)}: "
        f"{config.pairs * bytes_per_pair(model, recipe) / 1e9:.2f} GB"
    )
    pairs = draw_pairs(
        model, material.sources, recipe, share=parallel.own_share(), on_pairs=_tell(recipe.count, console.print)
    )
    if pairs.wanted is not None:
        start_fusion(model, pairs.wanted[:_MEASURED_PAIRS].to(device))
    record: TrainingRecord[ARSeg] = TrainingRecord(
        folder,
        unit="step",
        total=count_steps(len(pairs), choose_recipe(config)),
        every=LOG_EVERY,
        title=title,
        console=console,
        draw=partial(
            draw_pair_labels, pairs=pick_pairs(held_out or pairs), fused=not config.without_fusion, device=device
        ),
    )
    claim_folder(folder, config, keyframe_sha256=sha256)
    with record if parallel.is_first() else nullcontext():
        train_arseg(
            model,
            pairs,
            class_weights=class_weights(pairs.targets, len(model.classes), temper=config.weight_temper),
            config=choose_recipe(config),
            folder=folder,
            held_out=held_out,
            on_step=record.add,
            on_save=record.look,
            device=device,
        )
    if parallel.is_first():
        _write(config, model, material.data, sha256)


def choose_pair_recipe(config: TrainArsegConfig, size: tuple[int, int]) -> PairRecipe:
    """How pairs are drawn; of several processes, each draws its part."""
    return PairRecipe(
        size=size,
        count=config.pairs // parallel.num_processes(),
        pairs_per_run=config.pairs_per_run,
        keyframe_interval=config.keyframe_interval,
        fused=not config.without_fusion,
        bf16=config.precision == "bf16",
        seed=(config.seed, 4),
    )


def choose_recipe(config: TrainArsegConfig) -> ArsegTraining:
    """What the loop is told."""
    return ArsegTraining(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        fusion_learning_rate=config.fusion_learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        loss=config.loss,
        feature_weight=config.feature_weight,
        fused=not config.without_fusion,
        optimiser=config.optimiser,
        precision=config.precision,
        seed=config.seed,
    )


def _draw_held_out(model: ARSeg, material: RunMaterial, config: TrainArsegConfig) -> ArsegPairs | None:
    """The same pairs whenever the seed is the same; one per run, for variety."""
    if material.held_out is None or not parallel.is_first():
        return None
    recipe = choose_pair_recipe(config, material.size)
    recipe = replace(recipe, count=_HELD_OUT_PAIRS, pairs_per_run=1, seed=(config.seed, 5))
    return draw_pairs(model, [(material.held_out, 1.0)], recipe)


def _tell(total: int, report: Report) -> Callable[[int], None]:
    """A function that reports how many pairs are drawn, ten times in all."""
    told = 0

    def tell(count: int) -> None:
        nonlocal told
        if count >= total or count - told >= _REPORT_EVERY * total:
            told = count
            report(f"{count} of {total} pairs")

    return tell


def _write(config: TrainArsegConfig, model: ARSeg, data: list[str], sha256: str) -> None:
    """The checkpoint of both networks, or of the frame network alone where it was trained alone."""
    result = without_fusion(model) if config.without_fusion else model
    family = describe_model(result).family
    alone = f", read at {config.scale} times the size" if config.without_fusion else ""
    notes = describe_training(config, f"{family}{alone} trained on {', '.join(data)}", data)
    notes["keyframe"] = describe_keyframe(config.keyframe, sha256)
    save_checkpoint(config.out, result, notes=notes)
