"""The optimiser and the learning rates that every training loop here shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gsvnet.errors import ConfigError


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Factor in 0..1: linear up to `warmup`, then half a cosine down to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimiser(name: str, groups: list[dict]) -> torch.optim.Optimizer:
    """AdamW ("adamw"), or SGD with Nesterov momentum 0.9 as GSVNet's authors use it ("sgd").

    groups: of parameters, each with its lr and weight_decay. SGD wants rates about 20 times those of AdamW.
    """
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups)


def set_rates(optimiser: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """Set the learning rate of each group of parameters."""
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate


def check_recipe(optimiser: str, precision: str) -> None:
    """Raises ConfigError for an optimiser or a precision that the loops do not know."""
    for name, value, allowed in (
        ("optimiser", optimiser, ("adamw", "sgd")),
        ("precision", precision, ("bf16", "fp32")),
    ):
        if value not in allowed:
            raise ConfigError(f"{name} {value!r}; allowed: {', '.join(allowed)}")
