"""Tensors out of a PyTorch file, and nothing else: what a published checkpoint holds, without running any of it.

Only tensors and plain containers are unpickled (`weights_only`, with argparse.Namespace allowed because GSVNet files
hold their command line); a file with anything else is refused.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gsvnet.errors import ModelError


def unpickle(path: str | Path) -> object:
    """A file's contents on the CPU. Raises ModelError if it cannot be read or holds more than data."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    except Exception as error:  # whatever a damaged or hostile file makes the restricted unpickler raise
        asked = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))  # the rest of it says how to run that
        more = f"; it asks for {asked[1]}" if asked else ""
        raise ModelError(f"{path} is refused: not a PyTorch file of tensors and plain containers{more}") from error


def find_weights(contents: object, path: str | Path) -> dict[str, Tensor]:
    """The state dict in an image network's or TDNet's file: bare, or under `state_dict`, `model` or `model_state`."""
    if isinstance(contents, dict):
        for key in ("state_dict", "model", "model_state"):
            if isinstance(contents.get(key), Mapping):
                return as_weights(contents[key], f"{path}, {key}")
    return as_weights(contents, str(path))


def as_weights(contents: object, where: str) -> dict[str, Tensor]:
    """A flat dict of dense real tensors, without the `module.` that data-parallel training puts before every name."""
    if not isinstance(contents, Mapping) or not contents:
        raise ModelError(f"{where}: expected a state dict (name -> tensor), got {type(contents).__name__}")
    odd = [name for name, value in contents.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        raise ModelError(f"{where}: entry {odd[0]!r} is no tensor, so this is no state dict")
    for name, value in contents.items():
        if not _is_plain(value):
            raise ModelError(
                f"{where}: tensor {name} is {value.layout}, {value.dtype}, {value.device}; allowed: dense, real"
            )
    prefix = "module." if all(name.startswith("module.") for name in contents) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in contents.items()}


def _is_plain(tensor: Tensor) -> bool:
    """Whether numbers lie in memory, each for itself; not sparse, nested, quantised, complex or without any data."""
    dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    return dense and tensor.device.type == "cpu" and not tensor.is_complex()
