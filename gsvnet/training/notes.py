"""What a training says about itself: in the checkpoint for readers, and in its folder so that no other one goes on."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from gsvnet.errors import ConfigError
from gsvnet.models.checkpoints import read_notes
from gsvnet.training import parallel
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.tdnet_config import TrainTdnetConfig
from gsvnet.uris import redact_uri

Config = TrainKeyframeConfig | TrainPropagationConfig | TrainArsegConfig | TrainTdnetConfig | AdaptConfig

_COMMANDS = {
    TrainKeyframeConfig: "train keyframe",
    TrainPropagationConfig: "train propagation",
    TrainArsegConfig: "train arseg",
    TrainTdnetConfig: "train tdnet",
    AdaptConfig: "adapt",
}
_FREE_TO_CHANGE = ("out", "threads", "device", "interval", "agreement")  # the last two: of what is reported at the end
_POSITIONAL = ("videos",)
_KEYFRAME_FILE = "keyframe.sha256"


def describe_training(config: Config, summary: str, data: list[str]) -> dict:
    """Notes for a checkpoint: JSON-ready, the same on every machine. data: what was trained on, in words."""
    recipe = {field.name: _by_name(getattr(config, field.name)) for field in fields(config)}
    return {"summary": summary, "data": data, "recipe": recipe, "command": describe_command(config)}


def describe_command(config: Config) -> str:
    """The command line that says the same, files by name without their folders, options at their default left out."""
    words = ["gsvnet", *_COMMANDS[type(config)].split()]
    for field in fields(config):
        value = _by_name(getattr(config, field.name))
        if getattr(config, field.name) != field.default:
            option = f"--{'no-' if value is False else ''}{field.name.replace('_', '-')}"
            flag = [] if field.name in _POSITIONAL else [option]
            values = [] if isinstance(value, bool) else value if isinstance(value, list) else [value]
            words += [*flag, *map(str, values)]
    return shlex.join(words)


def find_folder(config: Config) -> Path:
    """The folder beside --out for what a rerun needs; it may not exist yet.

    Raises ConfigError, naming the options that differ, when another command's training is in it.
    """
    folder = config.out.with_suffix(".training")
    if (folder / "state.pt").exists() and (folder / "command.json").exists():
        wanted, usual = _identify(config), {field.name: str(_in_full(field.default)) for field in fields(config)}
        known = usual | json.loads((folder / "command.json").read_text())  # it may be older than some options
        known = {name: value for name, value in known.items() if name not in _FREE_TO_CHANGE}
        names = sorted({*known, *wanted})
        differ = [f"--{name.replace('_', '-')}" for name in names if known.get(name) != wanted.get(name)]
        if differ:
            raise ConfigError(
                f"{folder} holds a training with other {', '.join(differ)}; choose another --out, or remove the folder"
            )
    return folder


def describe_keyframe(path: Path, sha256: str) -> dict[str, Any]:
    """What a checkpoint's notes say of the network that its training built on. sha256: of that network."""
    return {"sha256": sha256, "notes": read_notes(path)[1]}


def check_keyframe(folder: Path, sha256: str) -> None:
    """Raises ConfigError when the training in it is for another keyframe network, though its name may be the same."""
    path = folder / _KEYFRAME_FILE
    if (folder / "state.pt").exists() and path.exists() and path.read_text().strip() != sha256:
        raise ConfigError(
            f"{folder} holds a training for another keyframe network (sha256 {path.read_text()[:12]}..., now "
            f"{sha256[:12]}...); choose another --out, or remove the folder"
        )


def claim_folder(folder: Path, config: Config, *, keyframe_sha256: str | None = None) -> None:
    """Make the folder this command's, for a keyframe network where there is one, once every process saw that it may."""
    parallel.wait_for_all()
    if not parallel.is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "command.json").write_text(json.dumps(_identify(config), indent=1) + "\n")
    if keyframe_sha256 is not None:
        (folder / _KEYFRAME_FILE).write_text(keyframe_sha256 + "\n")


def _identify(config: Config) -> dict[str, str]:
    """What must stay equal for a rerun to be the same training; files by full path."""
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in _FREE_TO_CHANGE}
    return {name: str(_in_full(value)) for name, value in values.items()}


def _by_name(value: object) -> object:
    if isinstance(value, tuple):
        return [_by_name(item) for item in value]
    if isinstance(value, str):
        return redact_uri(value).rstrip("/").rpartition("/")[2]
    return value.name if isinstance(value, Path) else value


def _in_full(value: object) -> object:
    if isinstance(value, tuple):
        return [redact_uri(item) if isinstance(item, str) else item for item in value]
    return value.resolve() if isinstance(value, Path) else value
