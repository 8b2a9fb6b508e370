"""What the rows run on: the user's video and model, or the drawn clip and the stand-in network, made once and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from gsvnet.benchmark.config import BenchmarkConfig
from gsvnet.benchmark.footage import ClipConfig, cache_folder, describe_clip, draw_frames, prepare_clip
from gsvnet.benchmark.machine import usable_cores
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.standin import build_stand_in
from gsvnet.errors import ConfigError
from gsvnet.models.checkpoints import load_checkpoint, load_model, save_checkpoint
from gsvnet.models.gsvnet import GSVNet

FITTED_FRAMES = 6  # of the drawn ones; each takes a second to draw


def prepare(config: BenchmarkConfig, *, report: Callable[[str], None] = lambda doing: None) -> Setting:
    """The setting of all rows, with the working folder in place of a scratch folder. Raises ConfigError."""
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA device here")
    height, width = config.height_width
    clip, folder = ClipConfig(height=height, width=width), cache_folder()
    report("preparing the network")
    model = prepare_stand_in(clip, folder) if config.model is None else load_model(config.model)
    if not isinstance(model, GSVNet):
        raise ConfigError(f"--model {config.model}: a {type(model).__name__}; rows compare keyframes with other frames")
    report("drawing the clip")
    video = config.video or prepare_clip(clip, folder)
    facts = describe_clip(video)
    return Setting(
        folder=folder,
        video=video,
        model=model,
        threads=config.threads or usable_cores(),
        device=device,
        rounds=config.rounds,
        size=(facts["height"], facts["width"]),
    )


def prepare_stand_in(clip: ClipConfig, folder: Path) -> GSVNet:
    """The stand-in network fitted to a clip, kept in `folder`."""
    path = folder / f"{clip.stem}-network.safetensors"
    if not path.is_file():
        unfinished = path.with_name(f".{path.stem}-{os.getpid()}.safetensors")
        indices = [round(i * (clip.drawn - 1) / (FITTED_FRAMES - 1)) for i in range(FITTED_FRAMES)]
        images, truth = draw_frames(clip, sorted(set(indices)))
        save_checkpoint(unfinished, build_stand_in(list(images), list(truth)), half=False)
        unfinished.replace(path)
    model = load_checkpoint(path)
    assert isinstance(model, GSVNet)
    return model
