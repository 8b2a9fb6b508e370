"""`gsvnet evaluate`: load what is named, score it, show the numbers and write them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from gsvnet.errors import ConfigError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.cityscapes import open_cityscapes
from gsvnet.evaluation.config import EvaluateCamvidConfig, EvaluateConfig, ScoringOptions
from gsvnet.evaluation.dataset import ScoredClips
from gsvnet.evaluation.protocol import evaluate as score_clips
from gsvnet.evaluation.table import show_result
from gsvnet.models.checkpoints import load_model
from gsvnet.models.segmenter import VideoSegmenter


def evaluate(config: EvaluateConfig, console: Console) -> None:
    """Do what `config` says; tables go to the console. Raises ConfigError for what cannot be scored."""
    open_split = open_camvid if isinstance(config, EvaluateCamvidConfig) else open_cityscapes
    _score(open_split(config.root, config.split, keyframe_interval=config.scoring.keyframe_interval), config, console)


def _score(data: ScoredClips, config: EvaluateConfig, console: Console) -> None:
    options = config.scoring
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    model = _load_scored_model(options, device)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{data.dataset} {data.split}")
        result = score_clips(
            model,
            data,
            batch_chunks=options.batch_chunks,
            device=device,
            precision=precision,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    show_result(result, console)
    if options.json is not None:
        about = {"model": options.model, "device": device, "precision": precision}
        write_result(options.json, about | result.to_dict())


def write_result(path: Path, figures: dict) -> None:
    """Write figures as JSON. Raises ConfigError where the file cannot be written."""
    try:
        path.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write --json {path}: {error.strerror or error}") from error


def _load_scored_model(options: ScoringOptions, device: str) -> VideoSegmenter:
    """The model as it is scored: in evaluation mode, on the device."""
    model = load_model(options.model)
    assert isinstance(model, nn.Module)
    return model.to(device)


def choose_device(device: str) -> str:
    """ "cpu" or "cuda". Raises ConfigError for cuda where there is none."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA here")
    return device


def choose_precision(precision: str, device: str) -> Literal["fp32", "bf16"]:
    """What the networks run in: by wish, or as labeling does, bf16 on CUDA and fp32 on a CPU."""
    return "bf16" if precision == "bf16" or (precision == "auto" and device == "cuda") else "fp32"
