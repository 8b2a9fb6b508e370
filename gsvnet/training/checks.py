"""What options of `gsvnet train` and `gsvnet adapt` may be, where two or more of these commands have them.

Each check raises ConfigError that names the option, its value and what is allowed.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gsvnet.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["bf16", "fp32"]
Optimiser = Literal["adamw", "sgd"]
LabelLoss = Literal["cross-entropy", "ohem"]  # of logits and true labels
ConsistencyForm = Literal["sound", "published"]  # of the loss between neighbouring frames
FlowSource = Literal["dis", "proxy", "light"]  # of the flow between frames of real videos


def check_out(out: Path) -> None:
    """Refuse a checkpoint that would not be called .safetensors."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: must end in .safetensors")


def check_least(config: object, least: dict[str, float]) -> None:
    """Refuse options of `config`, by field name, below the least value given; None, a default, is left alone."""
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and not value >= smallest:
            raise ConfigError(f"{_flag(name)} {value}: at least {smallest}")


def check_positive(config: object, *names: str) -> None:
    """Refuse options of `config`, by field name, that are 0 or less: learning rates, for instance."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"{_flag(name)} {value}: must be positive")


def check_most(config: object, name: str, most: float, because: str) -> None:
    """Refuse an option of `config`, by field name, above `most`; because: what sets that limit, in words."""
    value = getattr(config, name)
    if value > most:
        raise ConfigError(f"{_flag(name)} {value}: at most {most}, {because}")


def check_finite(config: DataclassInstance) -> None:
    """Refuse infinity and what is no number, in any option of `config`."""
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{_flag(field.name)} {value}: must be a finite number")


def check_shares(config: object, *names: str) -> None:
    """Refuse shares of kinds of material, by field name, that are 0 or less."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"{_flag(name)} {value}: must be positive; leave the input out instead")


def check_temper(temper: float) -> None:
    """Refuse class weights 1 / ln(temper + share) that could be infinite or negative."""
    if not temper > 1:
        raise ConfigError(f"--weight-temper {temper}: must be above 1")


def check_hold_out(share: float) -> None:
    """Refuse to hold out less than nothing, or nearly all; 0 is no held-out part."""
    if not 0 <= share <= 0.9:
        raise ConfigError(f"--hold-out {share}: a share of the material, 0 to 0.9")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
