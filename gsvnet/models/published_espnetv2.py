"""Published ESPNetv2 files (the EdgeNets model zoo): their names, their width, their twentieth class."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_strictly
from gsvnet.models.espnetv2 import CHANNELS, ESPNetv2
from gsvnet.models.unpickle import find_weights, unpickle

# Ours on the left, the file's on the right; the encoder's names are the same. A block's number counts on from its name.
_BLOCKS = {"decode": ("bu_dec_l", 1), "skips": ("merge_enc_dec_l", 2), "blend": ("bu_br_l", 2)}
_PARTS = {
    "projection.conv": "projection_layer.cbr.0",
    "projection.bn": "projection_layer.cbr.1",
    "projection.act": "projection_layer.cbr.2",
    "norm.bn": "merge_layer.0.br.0",
    "norm.act": "merge_layer.0.br.1",
    "mix.conv": "merge_layer.2.cbr.0",
    "mix.bn": "merge_layer.2.cbr.1",
    "mix.act": "merge_layer.2.cbr.2",
    "merge": "merge_layer.3",
    "br.bn": "br.br.0",
    "br.act": "br.br.1",
    "weigh": "wt_layer.1",
    "expansion.conv": "expansion_layer.cbr.0",
    "expansion.bn": "expansion_layer.cbr.1",
    "expansion.act": "expansion_layer.cbr.2",
    "bn": "0",
    "act": "1",
}


def published_espnetv2_name(name: str) -> str:
    """The published name of a parameter or buffer of `ESPNetv2`."""
    if name.startswith("base_net."):
        return name
    block, number, part = name.split(".", 2)
    module, leaf = part.rsplit(".", 1)
    prefix, first = _BLOCKS[block]
    return f"{prefix}{int(number) + first}.{_PARTS.get(module, module)}.{leaf}"


def load_published_espnetv2(path: str | Path, *, num_classes: int = 19) -> ESPNetv2:
    """ESPNetv2 from a published file: a bare state dict, of any width, with one output more for void, which is dropped.

    Without it the network never answers "void": an unlabelled region gets the best of the real classes.
    """
    weights = find_weights(unpickle(path), path)
    network = ESPNetv2(
        num_classes=num_classes,
        width=_read_width(weights, path),
        projection=_length_of("decode.0.projection.bn.weight", weights, path),
    )
    for leaf in ("weight", "bias"):
        name = published_espnetv2_name(f"{network.classifiers[0]}.{leaf}")
        if name in weights and len(weights[name]) == num_classes + 1:
            weights[name] = weights[name][:num_classes]
    load_strictly(network, weights, source=str(path), file_name=published_espnetv2_name)
    return network.eval()


def _read_width(weights: dict[str, Tensor], path: str | Path) -> float:
    """The width whose deepest features have as many channels as the file's."""
    channels = _length_of("base_net.level4_0.act.weight", weights, path)
    widths = {deepest: width for width, (*_, deepest) in CHANNELS.items()}
    if channels not in widths:
        raise ModelError(f"{path}: {channels} channels at 1/16 are those of no ESPNetv2; known: {sorted(widths)}")
    return widths[channels]


def _length_of(name: str, weights: dict[str, Tensor], path: str | Path) -> int:
    published = published_espnetv2_name(name)
    if published not in weights:
        raise ModelError(f"{path} is no ESPNetv2 for segmentation: missing {published}")
    return weights[published].numel()
