"""`gsvnet adapt`: train a propagation for any keyframe network on anybody's videos, without labels.

The keyframe network is run on every frame and its own output is the target, so what is learned is to need it less
often. Nothing here makes the keyframe network itself better.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from pathlib import Path

import torch
from rich.console import Console

from gsvnet.errors import ModelError
from gsvnet.evaluation.agreement import Agreement, measure_agreement
from gsvnet.evaluation.commands import choose_device
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.models.checkpoints import keyframe_hash, save_checkpoint, without_keyframe_network
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.spec import describe_model
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.adapt_material import Material, cut_videos, describe_data, label_clips
from gsvnet.training.adapt_report import AdaptReport
from gsvnet.training.adapt_start import start_model
from gsvnet.training.clips import StillClips, VideoClips
from gsvnet.training.notes import check_keyframe, describe_training, find_folder
from gsvnet.training.propagation_run import run_training


def adapt(config: AdaptConfig, *, console: Console | None = None) -> AdaptReport:
    """Train what `config` says, write `config.out` and the report beside it. console: for progress; default: nowhere.

    A rerun of the same command goes on where the last one stopped. Videos that cannot be used are left out and named.
    Raises ConfigError, before training starts, for a model that does not fit, for videos that leave nothing to train or
    to report on, and for a folder that belongs to another command or another keyframe network.
    """
    console = console or Console(quiet=True)
    report = partial(console.print, markup=False)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device, (model, start) = choose_device(config.device), start_model(config)
    folder, sha256 = find_folder(config), keyframe_hash(model)
    check_keyframe(folder, sha256)
    materials = cut_videos(expand_inputs(config.videos), config, report)
    model.eval().to(device)
    report(f"propagation starts {start}")
    report(f"measuring it on {sum(stop - first for m in materials for first, stop in m.held_out)} held-out frames")
    before = measure_held_out(model, materials, config, device)
    clips = label_clips(model, materials, config, device, report)
    _train(model, clips, config, folder, sha256, device, console)
    after = measure_held_out(model, materials, config, device)
    names = tuple(material.name for material in materials if material.held_out)
    result = AdaptReport(
        videos=names,
        start=before,
        adapted=after,
        wished=config.agreement,
        keyframe_model=None if _is_storable(model) else config.keyframe_model,
    )
    _save(model, sha256, config, result, describe_data(materials))
    return result


def measure_held_out(model: GSVNet, materials: Sequence[Material], config: AdaptConfig, device: str) -> Agreement:
    """Agreement with the keyframe network on all held-out runs together."""
    parts = [
        measure_agreement(
            model,
            material.footage,
            first_frame=first,
            stop_frame=stop,
            interval=config.interval,
            device=device,
            threads=max(1, config.threads),
        )
        for material in materials
        for first, stop in material.held_out
    ]
    return reduce(add, parts)


def _train(
    model: GSVNet,
    clips: list[tuple[VideoClips | StillClips, float]],
    config: AdaptConfig,
    folder: Path,
    sha256: str,
    device: str,
    console: Console,
) -> None:
    videos = [clip for clip, _ in clips if isinstance(clip, VideoClips)]
    run_training(
        model,
        clips,
        targets=torch.cat([clip.targets.flatten() for clip in videos]),
        samples={"video": videos[0]},
        config=config,
        folder=folder,
        keyframe_sha256=sha256,
        title=f"{config.out.name}: training material",
        device=device,
        console=console,
    )


def _save(model: GSVNet, sha256: str, config: AdaptConfig, result: AdaptReport, data: list[str]) -> None:
    """The checkpoint, with its keyframe network where checkpoints know its family, and the report beside it."""
    notes = describe_training(config, f"propagation adapted without labels to {', '.join(data)}", data)
    notes |= {"keyframe": {"sha256": sha256}, "agreement": result.to_dict()}
    save_checkpoint(config.out, without_keyframe_network(model) if result.keyframe_model else model, notes=notes)
    about = {"model": config.out.name, "keyframe_sha256": sha256} | result.to_dict()
    config.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def _is_storable(model: GSVNet) -> bool:
    try:
        describe_model(model)
    except ModelError:
        return False
    return True
