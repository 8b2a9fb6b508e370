"""The authors' own files: of SwiftNet-R18, BiSeNet-R18, GSVNet's propagation, ESPNetv2, ETC, AR-Seg and TDNet.

Every name and shape has to fit: GSVNet's authors load non-strictly, which lets a wrong file through with a printed
warning. `unpickle.py` reads the files, `published_espnetv2.py`, `published_etc.py`, `published_arseg.py` and
`published_tdnet.py` know those networks' names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gsvnet.classes import CITYSCAPES, ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.checkpoints import load_strictly, save_checkpoint
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import NEIGHBOURS, Propagation
from gsvnet.models.published_arseg import PUBLISHED_ARSEG, build_published_arseg
from gsvnet.models.published_espnetv2 import load_published_espnetv2
from gsvnet.models.published_etc import PUBLISHED_ETC, load_published_etc
from gsvnet.models.published_tdnet import (
    PSPNET101,
    PUBLISHED_TDNET,
    build_published_tdnet,
    load_published_pspnet101,
)
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.spec import IMAGENET_NORMALISE, ModelSpec, NormaliseSpec, StoredModel, build_model, options_of
from gsvnet.models.swiftnet import SwiftNet
from gsvnet.models.unpickle import as_weights, find_weights, unpickle

_SWIFTNET_MEAN, _SWIFTNET_STD = (73.15, 82.90, 72.3), (47.67, 48.49, 47.73)
_PUBLISHED_SIZES = SizeRule(rows=None, keyframe_scale=0.75, strides=(8,))

_SWIFTNET = ModelSpec(
    family="swiftnet",
    classes=CITYSCAPES,
    normalise=NormaliseSpec(mean=_SWIFTNET_MEAN, std=_SWIFTNET_STD, scale=1.0),
    size_rule=_PUBLISHED_SIZES,
    resize="exact",
)
_BISENET = ModelSpec(
    family="bisenet",
    classes=CITYSCAPES,
    normalise=IMAGENET_NORMALISE,
    size_rule=_PUBLISHED_SIZES,
    resize="exact",
)
_ESPNETV2 = ModelSpec(
    family="espnetv2",
    classes=CITYSCAPES,
    normalise=IMAGENET_NORMALISE,
    size_rule=SizeRule(rows=512, strides=(4,)),  # a propagation on top gets the published grid, 128 rows
)
PUBLISHED: dict[str, ModelSpec] = {
    "gsvnet-swiftnet": replace(
        _SWIFTNET, family="gsvnet-swiftnet", frame_normalise=replace(_SWIFTNET.normalise, channels="bgr")
    ),
    "gsvnet-bisenet": replace(
        _BISENET, family="gsvnet-bisenet", frame_normalise=replace(_BISENET.normalise, channels="bgr")
    ),
    "swiftnet": _SWIFTNET,
    "bisenet": _BISENET,
    "espnetv2": _ESPNETV2,
    "pspnet18etc": PUBLISHED_ETC,
    "pspnet101": PSPNET101,
    **PUBLISHED_ARSEG,
    **PUBLISHED_TDNET,
}
"""The settings that the published weights were trained for, by family."""

# Ours on the left, the file's on the right. Index 0 is a convolution and 1 its batch norm, unless the file counts on.
_FLOW_NAMES = {
    "flow.conv1": "conv1",
    "flow.conv2": "conv2",
    "flow.dilated.0": "conv_dilate_1",
    "flow.dilated.1": "conv_dilate_2",
    "flow.dilated.2": "conv_dilate_3",
    "flow.dilated.3": "conv_dilate_4",
    "flow.merge": "conv_merge",
    "flow.to_flow": "toflow",
}
_GUIDE, _INTRA = "guided_filter.guide", "grm.intra_net.intra_net"
_GSV_NAMES = {
    "intra.first.0": f"{_INTRA}.0",
    "intra.first.1": f"{_INTRA}.1",
    "intra.second.0": f"{_INTRA}.3",
    "intra.second.1": f"{_INTRA}.4",
    "intra.classify": f"{_INTRA}.6",
    f"{_GUIDE}.entry": "grm.guide.guide_conv",
    f"{_GUIDE}.to_half": "grm.guide.guide_conv_feat",
    f"{_GUIDE}.to_quarter.0": "grm.guide.guide_conv_feat.3",
    f"{_GUIDE}.to_quarter.1": "grm.guide.guide_conv_feat.4",
    f"{_GUIDE}.from_quarter.0": "grm.guide.guide_deconv.1",
    f"{_GUIDE}.from_quarter.1": "grm.guide.guide_deconv.2",
    f"{_GUIDE}.from_half.0": "grm.guide.guide_deconv.5",
    f"{_GUIDE}.from_half.1": "grm.guide.guide_deconv.6",
    f"{_GUIDE}.to_taps": "grm.guide.guide_decoder",
}
KERNELS_NAME = "grm.ideal_dk.filter_copy_s"


def published_name(name: str) -> str:
    """The published name of a parameter or buffer of `Propagation`."""
    module, leaf = name.rsplit(".", 1)
    names = _FLOW_NAMES | _GSV_NAMES
    if module in names:
        return f"{names[module]}.{leaf}"
    parent, index = module.rsplit(".", 1)
    return f"{names[parent]}.{index}.{leaf}"


def ideal_kernels() -> Tensor:
    """The shift kernels (9, 1, 1, 3, 3) in every published file; the ninth is never filled: the dead tap."""
    kernels = torch.zeros(len(NEIGHBOURS) + 1, 1, 1, 3, 3)
    for tap, (dy, dx) in enumerate(NEIGHBOURS):
        kernels[tap, 0, 0, 1 + dy, 1 + dx] = 1.0
    return kernels


def load_published_swiftnet(path: str | Path, *, num_classes: int = 19) -> SwiftNet:
    """SwiftNet-R18 from a published file: a bare state dict."""
    network = SwiftNet(num_classes=num_classes)
    load_strictly(network, find_weights(unpickle(path), path), source=str(path))
    return network.eval()


def load_published_bisenet(path: str | Path, *, num_classes: int = 19, auxiliary_heads: bool = False) -> BiSeNet:
    """BiSeNet-R18 from a published file: weights under `state_dict` or `model`, auxiliary heads included."""
    network = BiSeNet(num_classes=num_classes, auxiliary_heads=True)
    load_strictly(network, find_weights(unpickle(path), path), source=str(path))
    if not auxiliary_heads:
        network.drop_auxiliary_heads()
    return network.eval()


def load_published_propagation(path: str | Path, *, num_classes: int = 19) -> Propagation:
    """Propagation from a published GSVNet checkpoint: `grm.*` under `state_dict`, the flow under `state_dict_of`.

    Raises ModelError if the flow weights are absent (the authors' loader leaves the flow random then), or if the
    file's shift kernels are not the ideal ones: they would have been trained, and here a shift is a slice.
    """
    contents = unpickle(path)
    if not isinstance(contents, dict) or not {"state_dict", "state_dict_of"} <= contents.keys():
        raise ModelError(f"{path} is no GSVNet checkpoint: it needs the entries state_dict and state_dict_of")
    gsv, flow = (as_weights(contents[key], f"{path}, {key}") for key in ("state_dict", "state_dict_of"))
    _check_kernels(gsv.pop(KERNELS_NAME, None), path)
    overlap = gsv.keys() & flow.keys()
    if overlap:
        raise ModelError(f"{path}: {min(overlap)} stands in state_dict and in state_dict_of")
    propagation = Propagation(num_classes=num_classes)
    load_strictly(propagation, gsv | flow, source=str(path), file_name=published_name)
    return propagation.eval()


def convert_published(
    family: str,
    keyframe: str | Path,
    propagation: str | Path | None,
    out: str | Path,
    *,
    classes: ClassSet | None = None,
    half: bool = False,
) -> StoredModel:
    """Write one checkpoint of our own from published files, with the settings they were trained for.

    family: one of PUBLISHED. propagation: GSVNet's or AR-Seg's second file where the family has one, trained for that
    keyframe network, else None. classes: default: those that the files were trained for. half: see `save_checkpoint`;
    False keeps every bit. Returns the model that was saved.
    """
    if family not in PUBLISHED:
        raise ModelError(f"no published files of family {family!r}; known: {', '.join(PUBLISHED)}")
    _check_propagation(family, propagation)
    model: StoredModel
    if family in PUBLISHED_TDNET:
        model = build_published_tdnet(family, keyframe, classes)
    else:
        build = build_published_arseg if family in PUBLISHED_ARSEG else _build_published
        model = build(family, keyframe, propagation, classes)
    notes = {"converted_from": [Path(file).name for file in (keyframe, propagation) if file is not None]}
    save_checkpoint(out, model, notes=notes, half=half)
    return model.eval()


def _build_published(
    family: str, keyframe: str | Path, propagation: str | Path | None, classes: ClassSet | None
) -> GSVNet | PerFrame:
    spec = PUBLISHED[family]
    spec = spec if classes is None else replace(spec, classes=classes)
    network = _LOAD_KEYFRAME[spec.keyframe_family](keyframe, num_classes=len(spec.classes))
    model = build_model(replace(spec, network=options_of(network)))
    if isinstance(model, PerFrame):
        model.net = network
        return model
    assert isinstance(model, GSVNet)
    assert propagation is not None
    model.keyframe_network = network
    model.propagation = load_published_propagation(propagation, num_classes=len(spec.classes))
    return model


_LOAD_KEYFRAME: dict[str, Callable[..., nn.Module]] = {
    "swiftnet": load_published_swiftnet,
    "bisenet": load_published_bisenet,
    "espnetv2": load_published_espnetv2,
    "pspnet18etc": load_published_etc,
    "pspnet101": load_published_pspnet101,
}


def _check_propagation(family: str, propagation: str | Path | None) -> None:
    has_two_files = family.startswith(("gsvnet-", "arseg-"))
    if has_two_files and propagation is None:
        raise ModelError(f"family {family!r} needs --propagation, the published file for frames between keyframes")
    if not has_two_files and propagation is not None:
        raise ModelError(f"family {family!r} has no propagation; leave out --propagation {propagation}")


def _check_kernels(kernels: Tensor | None, path: str | Path) -> None:
    if kernels is None:
        raise ModelError(f"{path} is no GSVNet checkpoint: missing {KERNELS_NAME}")
    ideal = ideal_kernels()
    if kernels.shape != ideal.shape or not torch.equal(kernels.float(), ideal):
        raise ModelError(f"{path}: {KERNELS_NAME} holds trained kernels; only the ideal one-pixel shifts are supported")
