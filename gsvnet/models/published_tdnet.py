"""The files that TDNet's authors published: all sub-networks in one state dict, and PSPNet-101, their teacher.

Testing files are bare state dicts; training files hold them under `model_state`, with heads that only training uses.
What no frame ever needs is dropped once it is known that the file holds nothing else: ImageNet's classifiers, the half
of each pyramid that a sub-network computes and throws away, parts of FANet that lead nowhere, heads for training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gsvnet.classes import CITYSCAPES, ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import check_tensors
from gsvnet.models.fanet import FastAttention, NormedConvolution
from gsvnet.models.pspnet101 import PSPNet101
from gsvnet.models.pspnet_trunk import HALVES, PSPTrunk
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import IMAGENET_NORMALISE, NUM_SUB_NETWORKS, ModelSpec, build_model
from gsvnet.models.tdnet import TDNet
from gsvnet.models.unpickle import find_weights, unpickle
from gsvnet.nn.resnet import ResNet18Backbone

IMAGENET_CLASSES = 1000

PSPNET101 = ModelSpec(
    family="pspnet101",
    classes=CITYSCAPES,
    normalise=IMAGENET_NORMALISE,
    size_rule=SizeRule(rows=769),
    resize="exact",
)
_TD4_PSPNET18 = replace(
    PSPNET101,
    family="td4-pspnet18",
    propagation={"references": "before", "ensemble": "none", "memory_stride": 4},
)
PUBLISHED_TDNET = {
    "td4-pspnet18": _TD4_PSPNET18,
    "td2-pspnet50": replace(_TD4_PSPNET18, family="td2-pspnet50"),
    "td2-fanet18": replace(
        _TD4_PSPNET18,
        family="td2-fanet18",
        size_rule=SizeRule(rows=768),
        propagation=_TD4_PSPNET18.propagation | {"memory_stride": 3},
    ),
}
"""The settings that the published weights were tested with, by family; the size of the norms' maps is in the file."""

# Ours on the left, the file's on the right: how a name begins. The first that fits counts. {i}: the sub-network, from 1
# on; {other}: of `hops`, the one that is taken over from.
_RESNET = {"backbone": "pretrained{i}"}
_DEEP_RESNET = {
    **{f"backbone.stem.{n}.conv": f"pretrained{{i}}.conv1.{3 * n}" for n in range(3)},
    **{f"backbone.stem.{n}.bn": f"pretrained{{i}}.conv1.{3 * n + 1}" for n in range(2)},
    "backbone.stem.2.bn": "pretrained{i}.bn1",
    **_RESNET,
}


def _pyramid(theirs: str) -> dict[str, str]:
    parts = {"conv": 0, "bn": 1}
    return {
        f"pyramid.stages.{n}.1.{part}": f"{theirs}.conv{n + 1}.{at}" for n in range(4) for part, at in parts.items()
    }


def _attention(ours: str, theirs: str) -> dict[str, str]:
    parts = {"query": "w_qs", "key": "w_ks", "value": "w_vs", "merge": "latlayer3", "up": "up", "smooth": "smooth"}
    return {f"{ours}.{part}": f"{theirs}.{name}" for part, name in parts.items()}


_TRUNKS = {
    "td4-pspnet18": _RESNET | _pyramid("psp{i}"),
    "td2-pspnet50": _DEEP_RESNET | _pyramid("psp{i}"),
    "td2-fanet18": _RESNET
    | _attention("attend_eighth", "ffm_4_{i}")
    | _attention("attend_sixteenth", "ffm_8_{i}")
    | _attention("attend_thirty_second", "ffm_16_{i}")
    | _attention("attend_sixty_fourth", "ffm_32_{i}"),
}
_PSP_HEAD = {"head.0.conv": "head{i}.conv5.0", "head.0.bn": "head{i}.conv5.1", "head.2": "head{i}.conv5.4"}
_FANET_HEAD = {"head.0": "head{i}.conv", "head.1": "head{i}.conv_out"}
_ENCODING = {
    f"{ours}.{n}": f"enc{{i}}.{theirs}.{part}"
    for ours, theirs in {"query": "w_qs", "key": "w_ks"}.items()
    for n, part in {0: "0.conv", 1: "0.bn", 3: "1.conv"}.items()
} | {"value": "enc{i}.w_vs.0.conv", "norm": "layer_norm{i}.ln"}
_PSPNET101 = {name: theirs.format(i="") for name, theirs in (_DEEP_RESNET | _pyramid("head.conv5.0")).items()} | {
    "head.0.conv": "head.conv5.1",
    "head.0.bn": "head.conv5.2",
    "classifier": "head.conv5.5",
}


def published_tdnet_name(family: str, name: str) -> str:
    """The published name of a parameter or buffer of a TDNet, by its family, or of "pspnet101"."""
    if family == "pspnet101":
        return _translate(_PSPNET101, name)
    _, turn, rest = name.split(".", 2)
    number, count = int(turn), NUM_SUB_NETWORKS[family]
    if rest.startswith("hops."):
        _, hop, leaf = rest.split(".")
        other = f"_{(number + 1 + int(hop)) % count + 1}" if count > 2 else ""
        return f"atn{number + 1}{other}.fc.0.conv.{leaf}"
    head = _FANET_HEAD if family == "td2-fanet18" else _PSP_HEAD
    trunk = {f"trunk.{ours}": theirs for ours, theirs in _TRUNKS[family].items()}
    return _translate(trunk | _ENCODING | head, rest).format(i=number + 1)


def _translate(names: Mapping[str, str], name: str) -> str:
    ours, theirs = next(pair for pair in names.items() if name.startswith(f"{pair[0]}."))
    return theirs + name.removeprefix(ours)


def build_published_tdnet(family: str, path: str | Path, classes: ClassSet | None = None) -> TDNet:
    """TDNet of a published file with the settings that it was tested with, by `read_published_tdnet`."""
    spec, tensors = read_published_tdnet(family, path, classes)
    model = build_model(spec)
    assert isinstance(model, TDNet)
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def read_published_tdnet(
    family: str, path: str | Path, classes: ClassSet | None = None
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """What the network in a published file is, and what it uses of the file, by our names.

    family: one of PUBLISHED_TDNET. classes: default: CITYSCAPES. Raises ModelError for missing and unexpected names and
    for shapes that differ; the norms' maps may have any size, all the same.
    """
    weights = find_weights(unpickle(path), path)
    spec, (rows, columns) = PUBLISHED_TDNET[family], _read_map_size(weights, path)
    spec = replace(spec, propagation=spec.propagation | {"map_rows": rows, "map_columns": columns})
    spec = spec if classes is None else replace(spec, classes=classes)
    for_training = re.compile(rf"auxlayer[1-{NUM_SUB_NETWORKS[family]}]\.conv5\.\d\.\w+")
    weights = {name: tensor for name, tensor in weights.items() if not for_training.fullmatch(name)}
    return spec, _check(partial(build_model, spec), weights, family, path)


def load_published_pspnet101(path: str | Path, *, num_classes: int = 19) -> PSPNet101:
    """PSPNet-101 from a published file: a bare state dict."""
    build = partial(PSPNet101, num_classes=num_classes)
    live, network = _check(build, find_weights(unpickle(path), path), "pspnet101", path), build()
    network.load_state_dict(live, strict=True)
    return network.eval()


def _check(
    build: Callable[[], nn.Module], weights: Mapping[str, Tensor], family: str, path: str | Path
) -> dict[str, Tensor]:
    """What a network uses of a file, by our names; before, every name and shape is checked, of all that it holds."""
    with torch.device("meta"):  # an outline: nothing large is made for a file that does not fit
        network = build()
    assert isinstance(network, TDNet | PSPNet101)
    state = network.state_dict()
    names = {name: published_tdnet_name(family, name) for name in state}
    wanted = {theirs: _whole_shape(network, name, tuple(state[name].shape)) for name, theirs in names.items()}
    wanted |= {name: shape for name, shape in _dead_shapes(network, family).items() if name in weights}
    check_tensors(weights, wanted, source=str(path), network=type(network).__name__)
    return {name: _own_half(network, name, weights[theirs]) for name, theirs in names.items()}


def _whole_shape(network: nn.Module, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor in the file, which holds whole pyramids. shape: of ours."""
    return (HALVES * shape[0], *shape[1:]) if shape and _is_halved(network, name) else shape


def _own_half(network: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """What a sub-network uses of a tensor in the file: rows of the pyramid's convolutions and norms."""
    if not tensor.shape or not _is_halved(network, name):
        return tensor
    assert isinstance(network, TDNet)
    trunk = network.sub(int(name.split(".")[1])).trunk
    assert isinstance(trunk, PSPTrunk)
    return tensor.chunk(HALVES)[trunk.own_half]


def _is_halved(network: nn.Module, name: str) -> bool:
    return isinstance(network, TDNet) and ".pyramid." in name


def _dead_shapes(network: TDNet | PSPNet101, family: str) -> dict[str, tuple[int, ...]]:
    """What published files may hold besides what is used: name -> shape."""
    if family == "td2-fanet18":
        return _dead_shapes_of_fanet(len(network.classes))  # type: ignore[arg-type]
    numbers = [""] if isinstance(network, PSPNet101) else [str(i + 1) for i in range(network.num_sub_networks)]
    features = ResNet18Backbone.channels[-1] if family == "td4-pspnet18" else 2048
    shapes: dict[str, tuple[int, ...]] = {}
    for i in numbers:
        shapes[f"pretrained{i}.fc.weight"] = IMAGENET_CLASSES, features
        shapes[f"pretrained{i}.fc.bias"] = (IMAGENET_CLASSES,)
    return shapes


def _dead_shapes_of_fanet(num_classes: int) -> dict[str, tuple[int, ...]]:
    """Ways up from the finest map, ways to the head from two others, and a head that training has and does not use."""
    with torch.device("meta"):
        maps = {f"ffm_{n}": FastAttention(c, smooth=True) for n, c in zip((4, 8, 16, 32), ResNet18Backbone.channels)}
        last = nn.Conv2d(64, num_classes, 1, bias=False)
        head = nn.Sequential(NormedConvolution(128, 64, kernel=3, padding=1), last)
    names = _attention("maps", "")
    shapes = {
        f"{theirs}_{i}{_translate(names, f'maps.{name}')}": tuple(tensor.shape)
        for theirs, part in maps.items()
        for name, tensor in part.state_dict().items()
        for i in (1, 2)
    }
    to_head = partial(_translate, {"0": "conv", "1": "conv_out"})
    return shapes | {
        f"head_aux{i}.{to_head(name)}": tuple(tensor.shape)
        for name, tensor in head.state_dict().items()
        for i in (1, 2)
    }


def _read_map_size(weights: Mapping[str, Tensor], path: str | Path) -> tuple[int, int]:
    """(rows, columns) of the norms' maps."""
    name = "layer_norm1.ln.weight"
    if name not in weights:
        raise ModelError(f"{path} is no TDNet: missing {name}")
    shape = tuple(weights[name].shape)
    if len(shape) != 2:
        raise ModelError(f"{path}: {name} is {shape}; a spatial norm has a map, (rows, columns)")
    return shape[0], shape[1]
