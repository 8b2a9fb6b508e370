"""Where AR-Seg's training starts: two copies of one trained keyframe network, and a fusion that mixes them."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from gsvnet.errors import ModelError
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.spec import SPLIT_NETWORKS, describe_model
from gsvnet.models.split import SplitNetwork
from gsvnet.models.transfer import image_network_of
from gsvnet.training.arseg_config import TrainArsegConfig

_OWN_SHARE = 0.5  # of a fused feature: by how much the frame network's is scaled; the rest is the keyframe's
_QUERY_GAIN = 4.0  # over the features' variance; as queries are of scaled features, a place scores 2 with itself


def start_arseg(config: TrainArsegConfig) -> ARSeg:
    """The network of --keyframe for keyframes, a copy of it for other frames, and a fusion for `start_fusion` to fill.

    Raises ModelError for a network that has no seam between its last feature and its classifier.
    """
    found = image_network_of(load_checkpoint(config.keyframe))
    network = found.net
    if not isinstance(network, SplitNetwork):
        raise ModelError(
            f"--keyframe {config.keyframe}: holds {describe_model(found).family}; AR-Seg is built of "
            f"{', '.join(SPLIT_NETWORKS)}, whose last feature can be taken out"
        )
    fusion = CrossResolutionFusion(channels=network.feature_channels)
    return ARSeg(
        network,
        copy.deepcopy(network),
        fusion,
        classes=found.classes,
        normalise=found.normalise,
        size_rule=found.size_rule,
        scale=config.scale,
        references=config.references,
        resize=found.resize,
        align_corners=found.align_corners,
    ).eval()


@torch.no_grad()
def start_fusion(model: ARSeg, features: Tensor) -> None:
    """Let the model begin, in place, with the mean of what each frame sees itself and of what its keyframe saw.

    Half of a fused feature comes from the frame network, whose last norm is halved, and half from the attention, which
    looks for places with a similar feature, gently: where both networks see the same, a place scores 2 with itself, on
    average, and 0 with any other. The scores are not scaled by the number of channels, and with large ones it would
    hold to the strongest pixel of each window. Of keys the mean feature is taken off. Of queries it is too, but theirs
    are halved features: minus half of the mean remains, so that all of them lean to places that are unlike the mean.
    features: (N, K, rows, columns) of the keyframe network, to measure them on. From other beginnings a short training
    does not get to make use of the keyframe.
    """
    mean = features.mean(dim=(0, 2, 3), dtype=torch.float32)
    spread = features.float().var(dim=(0, 2, 3)).sum()
    for conv, gain, bias in (
        (model.fusion.query, _QUERY_GAIN / float(spread), -mean),
        (model.fusion.key, 1.0, -mean),
        (model.fusion.value, 1 - _OWN_SHARE, torch.zeros_like(mean)),
    ):
        assert conv.bias is not None
        conv.weight.zero_()
        conv.weight[:, 0, 1, 1] = gain
        conv.bias.copy_(gain * bias)
    _scale_feature(model.frame_network, _OWN_SHARE)


def _scale_feature(network: SplitNetwork, factor: float) -> None:
    """Scale what `extract` gives by scaling its last batch norm; only ReLUs, which scale with it, come after."""
    image = torch.randn(1, 3, 64, 64, device=next(network.parameters()).device)
    wanted = factor * network.extract(image)
    for norm in reversed([part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]):
        for weight in (norm.weight, norm.bias):
            weight.mul_(factor)
        if torch.allclose(network.extract(image), wanted, rtol=1e-3, atol=1e-4):
            return
        for weight in (norm.weight, norm.bias):
            weight.div_(factor)
    raise ModelError(f"{type(network).__name__}: its feature does not scale with any of its batch norms")


def size_rule_alone(model: ARSeg) -> SizeRule:
    """Of the frame network alone, which reads every frame at the model's scale.

    Beside keyframes AR-Seg rounds sizes down, as published; size rules round as they do for all image networks. So a
    training without fusion draws its frames by this rule, and what it writes reads the sizes that it learned from.
    """
    return replace(model.size_rule, keyframe_scale=model.size_rule.keyframe_scale * model.scale)


def without_fusion(model: ARSeg) -> PerFrame:
    """The frame network alone, as an image network that reads every frame at the model's scale."""
    return PerFrame(
        model.frame_network,
        classes=model.classes,
        normalise=model.normalise,
        size_rule=size_rule_alone(model),
        align_corners=model.align_corners,
        resize=model.resize,
    ).eval()
