"""What a training says about itself: in the checkpoint for readers, and in its folder so that no other one goes on."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from pathlib import Path

from gsvnet.errors import ConfigError
from gsvnet.training.config import TrainConfig, TrainKeyframeConfig
from gsvnet.video.source import redact_uri

_FREE_TO_CHANGE = ("out", "threads", "device")


def describe_training(config: TrainConfig, summary: str, data: list[str]) -> dict:
    """Notes for a checkpoint: JSON-ready, the same on every machine. data: what was trained on, in words."""
    recipe = {field.name: _by_name(getattr(config, field.name)) for field in fields(config)}
    return {"summary": summary, "data": data, "recipe": recipe, "command": describe_command(config)}


def describe_command(config: TrainConfig) -> str:
    """The command line that says the same, files by name without their folders, options at their default left out."""
    words = ["gsvnet", "train", "keyframe" if isinstance(config, TrainKeyframeConfig) else "propagation"]
    for field in fields(config):
        value = _by_name(getattr(config, field.name))
        if getattr(config, field.name) != field.default:
            words += [f"--{field.name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def find_folder(config: TrainConfig) -> Path:
    """The folder beside --out for what a rerun needs; it may not exist yet.

    Raises ConfigError, naming the options that differ, when another command's training is in it.
    """
    folder = config.out.with_suffix(".training")
    if (folder / "state.pt").exists() and (folder / "command.json").exists():
        known, wanted = json.loads((folder / "command.json").read_text()), _identify(config)
        names = sorted({*known, *wanted})
        differ = [f"--{name.replace('_', '-')}" for name in names if known.get(name) != wanted.get(name)]
        if differ:
            raise ConfigError(
                f"{folder} holds a training with other {', '.join(differ)}; choose another --out, or remove the folder"
            )
    return folder


def claim_folder(folder: Path, config: TrainConfig) -> None:
    """Make the folder this command's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "command.json").write_text(json.dumps(_identify(config), indent=1) + "\n")


def _identify(config: TrainConfig) -> dict[str, str]:
    """What must stay equal for a rerun to be the same training; files by full path."""
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in _FREE_TO_CHANGE}
    return {name: str(_in_full(value)) for name, value in values.items()}


def _by_name(value: object) -> object:
    if isinstance(value, tuple):
        return [redact_uri(item).rstrip("/").rpartition("/")[2] if isinstance(item, str) else item for item in value]
    return value.name if isinstance(value, Path) else value


def _in_full(value: object) -> object:
    if isinstance(value, tuple):
        return [redact_uri(item) if isinstance(item, str) else item for item in value]
    return value.resolve() if isinstance(value, Path) else value
