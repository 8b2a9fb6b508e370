"""The files that AR-Seg's authors published: a state dict for each resolution, of one of three networks.

The high-resolution file (HR) holds the keyframe network; the altered-resolution file (AR) the network of the frames
between and the fusion. Some tensors stand under two names. CamVid's files have a twelfth output for void, which is
dropped: the network then never answers "void", and an unlabelled region gets the best of the real classes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.checkpoints import load_strictly
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.spec import IMAGENET_NORMALISE, SPLIT_NETWORKS, ModelSpec, NormaliseSpec, build_model
from gsvnet.models.split import SplitNetwork
from gsvnet.models.unpickle import find_weights, unpickle

_CAMVID = ModelSpec(
    family="pspnet18up",
    classes=CAMVID,
    normalise=NormaliseSpec(mean=(0.39068785, 0.40521392, 0.41434407), std=(0.29652068, 0.30514979, 0.30080369)),
    size_rule=SizeRule(rows=720),
    resize="exact",
)
_CITYSCAPES = ModelSpec(
    family="pspnet18",
    classes=CITYSCAPES,
    normalise=IMAGENET_NORMALISE,
    size_rule=SizeRule(rows=1024),
    resize="exact",
)
_BISENET_CITYSCAPES = replace(
    _CITYSCAPES,
    family="bisenetv1",
    normalise=NormaliseSpec(mean=(0.3257, 0.3690, 0.3223), std=(0.2112, 0.2148, 0.2115)),
    align_corners=False,
)
_BISENET_CAMVID = replace(_CAMVID, family="bisenetv1", align_corners=False)


def _with_altered_resolution(spec: ModelSpec) -> ModelSpec:
    options = {"scale": 0.5, "sampling": "published", "references": "before"}
    return replace(spec, family=f"arseg-{spec.family}", propagation=options)


_IMAGE_NETWORKS = {spec.family: spec for spec in (_BISENET_CITYSCAPES, _CITYSCAPES, _CAMVID)}
PUBLISHED_ARSEG = _IMAGE_NETWORKS | {
    f"arseg-{name}": _with_altered_resolution(spec) for name, spec in _IMAGE_NETWORKS.items()
}
"""The settings that the published weights were trained for, by family; of bisenetv1, which has two, Cityscapes'."""

# Ours on the left, the file's on the right: how a name begins. The first that fits counts.
_NAMES = {
    "bisenetv1": {
        "context_path": "cp.resnet",
        "arms.0.conv_3x3": "cp.arm32.conv",
        "arms.0.channel_attention.1.conv": "cp.arm32.conv_atten",
        "arms.0.channel_attention.1.bn": "cp.arm32.bn_atten",
        "arms.1.conv_3x3": "cp.arm16.conv",
        "arms.1.channel_attention.1.conv": "cp.arm16.conv_atten",
        "arms.1.channel_attention.1.bn": "cp.arm16.bn_atten",
        "refines.0": "cp.conv_head32",
        "refines.1": "cp.conv_head16",
        "global_context.1": "cp.conv_avg",
        "spatial_path.conv_7x7": "sp.conv1",
        "spatial_path.conv_3x3_1": "sp.conv2",
        "spatial_path.conv_3x3_2": "sp.conv3",
        "spatial_path.conv_1x1": "sp.conv_out",
        "ffm.conv_1x1": "ffm.convblk",
        "ffm.channel_attention.1": "ffm",
        "head.conv_3x3": "conv_out.conv",
        "head.conv_1x1": "conv_out.conv_out",
        "auxiliary_heads.0.conv_3x3": "conv_out16.conv",
        "auxiliary_heads.0.conv_1x1": "conv_out16.conv_out",
        "auxiliary_heads.1.conv_3x3": "conv_out32.conv",
        "auxiliary_heads.1.conv_1x1": "conv_out32.conv_out",
    },
    "pspnet18": {
        "backbone.conv1": "layer0.0",
        "backbone.bn1": "layer0.1",
        **{f"backbone.layer{i}": f"layer{i}" for i in (1, 2, 3, 4)},
        **{f"pyramid.stages.{i}.1.conv": f"ppm.features.{i}.1" for i in range(4)},
        **{f"pyramid.stages.{i}.1.bn": f"ppm.features.{i}.2" for i in range(4)},
        "head.0.conv": "cls.0",
        "head.0.bn": "cls.1",
        "classifier": "cls.4",
        "auxiliary_head.0.conv": "aux.0",
        "auxiliary_head.0.bn": "aux.1",
        "auxiliary_head.2": "aux.4",
    },
    "pspnet18up": {
        "backbone": "feats",
        **{f"pyramid.stages.{i}.1.conv": f"psp.stages.{i}.1" for i in range(4)},
        "bottleneck.0": "psp.bottleneck",
        **{f"up.{i}": f"up_{i + 1}.conv" for i in range(3)},
        "classifier": "final_conv",
        "presence_head": "classifier",
    },
    "fusion": {
        "query": "fuse_attention.lr_query_conv",
        "key": "fuse_attention.hr_key_conv",
        "value": "fuse_attention.hr_value_conv",
    },
}
_ALIASES = {
    "bisenetv1": {"feat_conv_out": "conv_out.conv", "final_conv": "conv_out.conv_out"},
    "pspnet18": {"final_conv": "cls.4"},
    "pspnet18up": {},
}
"""Second names of tensors in the files, and their first."""


def published_arseg_name(network: str, name: str) -> str:
    """The published name of a parameter or buffer of a network, by its family, or of the "fusion"."""
    ours, theirs = next(pair for pair in _NAMES[network].items() if name.startswith(f"{pair[0]}."))
    return theirs + name.removeprefix(ours)


def build_published_arseg(
    family: str, keyframe: str | Path, propagation: str | Path | None, classes: ClassSet | None
) -> PerFrame | ARSeg:
    """The model of published files with the settings that they were trained for; heads for training are dropped.

    family: one of PUBLISHED_ARSEG. keyframe, propagation: the HR and the AR file; one file without "arseg-". classes:
    default: CITYSCAPES for files of 19 outputs, CAMVID for those of 12, whose last one, void, is dropped.
    """
    name, spec = family.removeprefix("arseg-"), PUBLISHED_ARSEG[family]
    weights = _read_weights(keyframe, name)
    if name == "bisenetv1" and _count_outputs(weights) == len(CAMVID) + 1:
        spec = replace(spec, **{key: getattr(_BISENET_CAMVID, key) for key in ("classes", "normalise", "size_rule")})
    spec = spec if classes is None else replace(spec, classes=classes)
    network, model = _build_keyframe_network(weights, keyframe, name, spec.classes), build_model(spec)
    network.drop_auxiliary_heads()
    if isinstance(model, PerFrame):
        model.net = network
        return model
    assert isinstance(model, ARSeg)
    assert propagation is not None
    model.keyframe_network = network
    model.frame_network, model.fusion = load_published_frame_network(propagation, name, spec.classes)
    return model


def load_published_keyframe_network(
    path: str | Path, name: str, classes: ClassSet, *, auxiliary_heads: bool = False
) -> SplitNetwork:
    """The network of an HR file. name: its family. auxiliary_heads: keep the heads that only training uses.

    pspnet18's may hold a fusion, which its class has and does not use.
    """
    network = _build_keyframe_network(_read_weights(path, name), path, name, classes)
    if not auxiliary_heads:
        network.drop_auxiliary_heads()
    return network


def load_published_frame_network(
    path: str | Path, name: str, classes: ClassSet
) -> tuple[SplitNetwork, CrossResolutionFusion]:
    """The network of an AR file and the fusion. name: the network's family."""
    network, fusion = _build(_read_weights(path, name), path, name, classes)
    if fusion is None:
        raise ModelError(f"{path} holds no fusion (fuse_attention): it is no AR file, but one for whole images")
    network.drop_auxiliary_heads()
    return network, fusion


def _build_keyframe_network(weights: dict[str, Tensor], path: str | Path, name: str, classes: ClassSet) -> SplitNetwork:
    """The network of an HR file's weights, with all its heads."""
    network, fusion = _build(weights, path, name, classes)
    if fusion is not None and name != "pspnet18":
        raise ModelError(f"{path} holds a fusion (fuse_attention): it is an AR file, for the frames between keyframes")
    return network


def _build(
    weights: dict[str, Tensor], path: str | Path, name: str, classes: ClassSet
) -> tuple[SplitNetwork, CrossResolutionFusion | None]:
    """The network with all its heads, and the fusion if the file holds one."""
    of_fusion = {key: weights.pop(key) for key in list(weights) if key.startswith("fuse_attention.")}
    network = SPLIT_NETWORKS[name](num_classes=len(classes), auxiliary_heads=True)
    if classes.identifiers == CAMVID.identifiers:
        _drop_void(weights, [published_arseg_name(name, f"{layer}.") for layer in network.classifiers])
    load_strictly(network, weights, source=str(path), file_name=partial(published_arseg_name, name))
    if not of_fusion:
        return network.eval(), None
    fusion = CrossResolutionFusion(channels=network.feature_channels)
    load_strictly(fusion, of_fusion, source=str(path), file_name=partial(published_arseg_name, "fusion"))
    return network.eval(), fusion.eval()


def _read_weights(path: str | Path, name: str) -> dict[str, Tensor]:
    """The file's tensors by their first names. Raises ModelError where a second name holds another tensor."""
    weights = find_weights(unpickle(path), path)
    for alias, first in _ALIASES[name].items():
        for key in [key for key in weights if key.startswith(f"{alias}.")]:
            original = first + key.removeprefix(alias)
            if original in weights and not torch.equal(weights[original], weights[key]):
                raise ModelError(f"{path}: {key} and {original} are two names of one tensor, and differ")
            weights.setdefault(original, weights.pop(key))
    return weights


def _drop_void(weights: dict[str, Tensor], layers: list[str]) -> None:
    """Take CamVid's twelfth output out of the last layers, in place. layers: how their names begin."""
    for key in [key for key in weights if key.startswith(tuple(layers))]:
        if weights[key].shape[:1] == (len(CAMVID) + 1,):
            weights[key] = weights[key][: len(CAMVID)]


def _count_outputs(weights: dict[str, Tensor]) -> int:
    """Of bisenetv1's weights; 0 where the last layer is missing."""
    return weights.get(published_arseg_name("bisenetv1", "head.conv_1x1.bias"), torch.empty(0)).numel()
