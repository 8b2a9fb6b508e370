"""One network of several that were fine-tuned from the same start: the mean of their weights.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, and "Model soups", ICML 2022: the average, which
costs what one network costs, often keeps what each learned, and of what was known before more than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.segmenter import PerFrame
from gsvnet.models.spec import ModelSpec, StoredModel, describe_model
from gsvnet.models.transfer import image_network_of


def average_checkpoints(sources: Sequence[str | Path], out: str | Path) -> None:
    """Write the mean of the checkpoints `sources`, complete or not at all; a file named twice counts twice.

    Of networks of one kind all of it; of a GSVNet and an image network, say, the networks that label single images.
    Batch norms' statistics are averaged too. Raises ModelError for fewer than two files, and for networks, classes,
    normalisation or sizes that differ, and where `out` is one of the sources.
    """
    if len(sources) < 2:
        raise ModelError(f"{len(sources)} checkpoint to average; name two or more")
    if Path(out).resolve() in {Path(path).resolve() for path in sources}:
        raise ModelError(f"{out} is one of the checkpoints to average, and would be lost; write another file")
    models: list[StoredModel] = [load_checkpoint(path) for path in sources]
    if _first_other(models) is not None:
        models = [image_network_of(model) for model in models]
    other = _first_other(models)
    if other is not None:
        raise ModelError(
            f"{sources[other]} is no relative of {sources[0]}: kind, classes, normalisation and sizes must be the same"
        )
    states = [model.state_dict() for model in models]
    mean = {name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]}
    models[0].load_state_dict(mean)  # in the dtypes that the network has
    made_of = [{"file": Path(path).name, "notes": read_notes(path)[1]} for path in sources]
    save_checkpoint(out, models[0], notes={"average_of": made_of})


def _first_other(models: Sequence[StoredModel]) -> int | None:
    """Which model differs from the first in more than its weights; None: none."""
    kinds = [_describe_kind(model) for model in models]
    return next((i for i, kind in enumerate(kinds) if kind != kinds[0]), None)


def _describe_kind(model: StoredModel) -> ModelSpec:
    spec = replace(describe_model(model), calibration=None)
    if isinstance(model, PerFrame):  # has no propagation, whatever grid its size rule would give one
        spec = replace(spec, size_rule=replace(spec.size_rule, strides=(1,), min_grid_rows=1))
    return spec
