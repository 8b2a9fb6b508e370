"""A model put to another use: for other classes, at another input size, from other keyframes, for single images."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from gsvnet.choices import Ensemble, References
from gsvnet.classes import ClassSet, find_counterparts
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models import arseg, tdnet
from gsvnet.models.adaptive import AdaptiveGSVNet
from gsvnet.models.arseg import ARSeg
from gsvnet.models.gsvnet import GSVNet, check_references
from gsvnet.models.segmenter import PerFrame, VideoSegmenter
from gsvnet.models.tdnet import TDNet

_NEW_ROW_SPREAD = 0.1  # of the old rows' standard deviation

Model = TypeVar("Model", GSVNet, PerFrame, ARSeg, TDNet)


def replace_classes(model: PerFrame, classes: ClassSet) -> PerFrame:
    """A copy of `model` that answers in other classes: where fine-tuning starts.

    A class with a counterpart (`find_counterparts`) keeps its rows of the last layers, which the network names in
    `classifiers`, auxiliary heads included. The others start as the mean of the old rows, so that they win nowhere,
    with a little noise to tell them apart; the same input gives the same weights. Raises ModelError for networks that
    name no last layer.
    """
    other = copy.deepcopy(model)
    net, names = other.net, getattr(other.net, "classifiers", ())
    if not names:
        raise ModelError(f"{type(net).__name__} names no last layer: give it an attribute `classifiers`, their names")
    counterparts = find_counterparts(model.classes, classes)
    generator = torch.Generator().manual_seed(0)
    for name in names:
        net.set_submodule(name, _renew(net.get_submodule(name), len(classes), counterparts, generator))
    other.classes = classes
    return other


def image_network_of(model: GSVNet | PerFrame | ARSeg | TDNet) -> PerFrame:
    """The network that labels `model`'s keyframes, for single images, as it reads them; weights are shared.

    Raises ModelError for TDNet, which has no keyframes.
    """
    if isinstance(model, PerFrame):
        return model
    if isinstance(model, TDNet):
        raise ModelError("TDNet has no network for keyframes: each of its sub-networks sees a part of the frames")
    if isinstance(model, GSVNet):
        normalise, size_rule = model.keyframe_normalise, model.keyframe_size_rule or model.size_rule
    else:
        normalise, size_rule = model.normalise, model.size_rule
    image = PerFrame(
        model.keyframe_network,
        classes=model.classes,
        normalise=normalise,
        size_rule=size_rule,
        align_corners=model.align_corners,
        resize=model.resize,
    )
    image.training = model.training  # its own flag alone: `train` would reach into parts that are frozen
    return image


def with_references(model: VideoSegmenter, references: References) -> GSVNet | ARSeg | TDNet:
    """`model` with frames that draw on other ones, or other keyframes; weights are shared.

    Raises ModelError for models that have no such choice, and for what such a model does not know.
    """
    if isinstance(model, GSVNet):
        check_references(references)
    elif isinstance(model, ARSeg | TDNet):
        (arseg if isinstance(model, ARSeg) else tdnet).check_settings(references=references)
    else:
        raise ModelError(
            f"references {references!r} are a choice of GSVNet, AR-Seg and TDNet; {type(model).__name__} has none"
        )
    other = copy.copy(model)
    other.references = references
    return other


def with_drift(model: VideoSegmenter) -> VideoSegmenter:
    """`model` so that it tells how far labels drift, where it can (GSVNet), else itself; weights are shared."""
    if not isinstance(model, GSVNet):
        return model
    other = copy.copy(model)
    other.drift = True
    return other


def with_min_agreement(model: VideoSegmenter, share: float) -> AdaptiveGSVNet:
    """`model` with keyframe intervals of its own choice; weights are shared.

    Raises ModelError for models other than GSVNet, ConfigError for what is no share.
    """
    if not isinstance(model, GSVNet):
        raise ModelError(f"a least agreement chooses intervals for GSVNet; {type(model).__name__} propagates no labels")
    return AdaptiveGSVNet.of(model, min_agreement=share)


def with_ensemble(model: VideoSegmenter, ensemble: Ensemble) -> TDNet:
    """`model` with frames that all its sub-networks label; weights are shared. Raises ModelError for other models."""
    if not isinstance(model, TDNet):
        raise ModelError(f"ensemble {ensemble!r} is a choice of TDNet; {type(model).__name__} has none")
    tdnet.check_settings(ensemble=ensemble)
    other = copy.copy(model)
    other.ensemble = ensemble
    return other


def with_keyframe_scale(model: Model, scale: float) -> Model:
    """`model` with keyframes (of a PerFrame network: all frames) read at `scale` times the working size.

    GSVNet's propagation grid stays; AR-Seg's other frames stay in proportion to its keyframes. Weights are shared with
    `model`, not copied. Raises ConfigError for scales outside (0, 2], ModelError for models without a size rule.
    """
    if not 0 < scale <= 2:
        raise ConfigError(f"keyframe scale {scale}: above 0 and at most 2 is allowed")
    if not isinstance(model, GSVNet | PerFrame | ARSeg | TDNet):
        raise ModelError(f"{type(model).__name__} has no size rule to scale; needed: GSVNet, ARSeg, TDNet or PerFrame")
    other = copy.copy(model)
    if isinstance(other, GSVNet) and other.keyframe_size_rule is not None:
        other.keyframe_size_rule = replace(other.keyframe_size_rule, keyframe_scale=scale)
    else:
        other.size_rule = replace(other.size_rule, keyframe_scale=scale)
    return other


@torch.no_grad()
def _renew(old: nn.Module, num_classes: int, counterparts: dict[int, int], generator: torch.Generator) -> nn.Module:
    """A last layer for `num_classes`, with the old one's rows where there is a counterpart (new id: old id)."""
    new = copy.deepcopy(old)
    if isinstance(new, nn.Conv2d):
        new.out_channels = num_classes
    else:
        assert isinstance(new, nn.Linear)
        new.out_features = num_classes
    for name, rows in old.named_parameters():
        mean, spread = rows.mean(0, keepdim=True), rows.std(0, keepdim=True)
        noise = torch.randn(num_classes, *rows.shape[1:], generator=generator).to(rows)
        renewed = mean + _NEW_ROW_SPREAD * spread * noise
        renewed[list(counterparts)] = rows[list(counterparts.values())]
        setattr(new, name, nn.Parameter(renewed))
    return new
