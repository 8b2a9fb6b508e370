"""What a network is, apart from its tensors: enough to rebuild it from a checkpoint or to start training it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion, check_settings
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.espnetv2 import ESPNetv2
from gsvnet.models.fastscnn import FastSCNN
from gsvnet.models.gsvnet import GSVNet, Propagation
from gsvnet.models.outside import OutsideNetwork
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.models.segmenter import Normalise, PerFrame, Resize, SizeRule
from gsvnet.models.split import SplitNetwork
from gsvnet.models.swiftnet import SwiftNet
from gsvnet.models.transfer import image_network_of

SPLIT_NETWORKS: dict[str, Callable[..., SplitNetwork]] = {
    "bisenetv1": BiSeNetV1,
    "pspnet18": PSPNet18,
    "pspnet18up": PSPNet18Up,
}
"""The image networks that AR-Seg can be built of."""
KEYFRAME_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "swiftnet": SwiftNet,
    "bisenet": BiSeNet,
    "fastscnn": FastSCNN,
    "espnetv2": ESPNetv2,
    **SPLIT_NETWORKS,
}
FAMILIES = (
    *KEYFRAME_NETWORKS,
    *(f"gsvnet-{name}" for name in KEYFRAME_NETWORKS),
    *(f"arseg-{name}" for name in SPLIT_NETWORKS),
)
OUTSIDE_FAMILY = "gsvnet-outside"  # a propagation alone, made by `gsvnet adapt` for a network that is not ours to store
_KINDS = KEYFRAME_NETWORKS | {"outside": OutsideNetwork}


@dataclass(frozen=True, kw_only=True)
class NormaliseSpec:
    """The arguments of `Normalise`: RGB pixels in 0..255 -> (x / scale - mean) / std in `channels` order."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 255.0
    channels: str = "rgb"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that a network is, apart from its tensors.

    family: one of FAMILIES, or OUTSIDE_FAMILY. normalise: of the keyframe network, or of every frame where there is no
    propagation, or where it is AR-Seg. frame_normalise: of GSVNet's propagation. size_rule, keyframe_size_rule, resize,
    align_corners: as in GSVNet and ARSeg.
    network, propagation: JSON-ready constructor options of the keyframe network, besides the number of classes, and of
    what carries it to other frames: of Propagation, or ARSeg's scale, sampling and references. A built module that has
    any tells them by its attribute `options`.
    """

    family: str
    classes: ClassSet
    normalise: NormaliseSpec
    frame_normalise: NormaliseSpec | None = None
    size_rule: SizeRule
    keyframe_size_rule: SizeRule | None = None
    resize: Resize = "area"
    align_corners: bool = True
    network: dict[str, Any] = field(default_factory=dict, hash=False)
    propagation: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.family not in (*FAMILIES, OUTSIDE_FAMILY):
            raise ModelError(f"unknown model family {self.family!r}; known: {', '.join(FAMILIES)}")
        if self.family.startswith("gsvnet-") and self.frame_normalise is None:
            raise ModelError(f"family {self.family!r} needs frame_normalise, the propagation's normalisation")
        _check_options("network", self.network, _option_names(_KINDS[self.keyframe_family]))
        if self.family.startswith("arseg-"):
            for name in ("frame_normalise", "keyframe_size_rule"):
                if getattr(self, name) is not None:
                    raise ModelError(
                        f"family {self.family!r} has no {name}: both its networks read alike; leave it out"
                    )
            _check_options("propagation", self.propagation, _option_names(check_settings))
            check_settings(**self.propagation)
        else:
            _check_options("propagation", self.propagation, _option_names(Propagation))

    @property
    def keyframe_family(self) -> str:
        """The image network's name in KEYFRAME_NETWORKS."""
        return self.family.removeprefix("gsvnet-").removeprefix("arseg-")

    def to_dict(self) -> dict:
        """Plain JSON-ready form; `from_dict` reads it back. Empty options are left out, as in older checkpoints."""
        data = asdict(self)
        for key in ("network", "propagation"):
            if not data[key]:
                del data[key]
        return data

    @classmethod
    def from_dict(cls, data: dict) -> ModelSpec:
        """Spec from `to_dict`'s form. Raises ModelError when a key is missing or unknown."""
        try:
            parts = dict(data)
            parts["classes"] = ClassSet.from_dict(parts["classes"])
            for key, kind in (
                ("normalise", NormaliseSpec),
                ("frame_normalise", NormaliseSpec),
                ("size_rule", SizeRule),
                ("keyframe_size_rule", SizeRule),
            ):
                parts[key] = parts.get(key) and kind(**_with_tuples(parts[key]))
            return cls(**parts)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise ModelError(f"not a model description: {error}") from error


def build_model(spec: ModelSpec) -> GSVNet | PerFrame | ARSeg:
    """The network of a spec with random weights, in training mode: what training starts from."""
    normalise = Normalise(**asdict(spec.normalise))
    if spec.family.startswith("arseg-"):
        return _build_arseg(spec, normalise)
    network = _KINDS[spec.keyframe_family](num_classes=len(spec.classes), **spec.network)
    if spec.frame_normalise is None or spec.family == spec.keyframe_family:
        return PerFrame(
            network,
            classes=spec.classes,
            normalise=normalise,
            size_rule=spec.size_rule,
            resize=spec.resize,
            align_corners=spec.align_corners,
        )
    return GSVNet(
        network,
        Propagation(num_classes=len(spec.classes), **spec.propagation),
        classes=spec.classes,
        keyframe_normalise=normalise,
        frame_normalise=Normalise(**asdict(spec.frame_normalise)),
        size_rule=spec.size_rule,
        keyframe_size_rule=spec.keyframe_size_rule,
        resize=spec.resize,
        align_corners=spec.align_corners,
    )


def _build_arseg(spec: ModelSpec, normalise: Normalise) -> ARSeg:
    kind = SPLIT_NETWORKS[spec.keyframe_family]
    network, frame_network = (kind(num_classes=len(spec.classes), **spec.network) for _ in range(2))
    return ARSeg(
        network,
        frame_network,
        CrossResolutionFusion(channels=network.feature_channels),
        classes=spec.classes,
        normalise=normalise,
        size_rule=spec.size_rule,
        resize=spec.resize,
        align_corners=spec.align_corners,
        **spec.propagation,
    )


def describe_model(model: nn.Module) -> ModelSpec:
    """The spec that `build_model` would rebuild `model` from. Raises ModelError for networks of no known family."""
    if not isinstance(model, GSVNet | PerFrame | ARSeg):
        raise ModelError(f"a checkpoint holds a GSVNet, an ARSeg or a PerFrame network, not {type(model).__name__}")
    image = image_network_of(model)
    names = [name for name, kind in _KINDS.items() if type(image.net) is kind]
    if not names:
        known = ", ".join(KEYFRAME_NETWORKS)
        raise ModelError(f"no checkpoint format for a keyframe network {type(image.net).__name__}; known: {known}")
    gsvnet = model if isinstance(model, GSVNet) else None
    prefix = "gsvnet-" if gsvnet else "arseg-" if isinstance(model, ARSeg) else ""
    return ModelSpec(
        family=prefix + names[0],
        classes=model.classes,
        normalise=_describe_normalise(image.normalise),
        frame_normalise=_describe_normalise(gsvnet.frame_normalise) if gsvnet else None,
        size_rule=model.size_rule,
        keyframe_size_rule=gsvnet.keyframe_size_rule if gsvnet else None,
        resize=model.resize,
        align_corners=model.align_corners,
        network=options_of(image.net),
        propagation=options_of(gsvnet.propagation if gsvnet else model),
    )


def options_of(module: nn.Module) -> dict:
    """The JSON-ready constructor options, besides the number of classes, that rebuild `module`."""
    return dict(getattr(module, "options", {}))


def _option_names(function: Callable[..., Any]) -> list[str]:
    """Of a constructor: what a checkpoint may set. Auxiliary heads are never in one."""
    return [name for name in inspect.signature(function).parameters if name not in ("num_classes", "auxiliary_heads")]


def _check_options(field_name: str, options: object, allowed: list[str]) -> None:
    if not isinstance(options, dict):
        raise ModelError(f"model description: {field_name} is {options!r}, no mapping from option to value")
    for name, value in options.items():
        if name not in allowed or not isinstance(value, bool | int | float | str):
            known = ", ".join(allowed) or "none"
            raise ModelError(
                f"model description: {field_name} option {name!r} is {value!r}; options there are: {known}"
            )


def _describe_normalise(normalise: Normalise) -> NormaliseSpec:
    def exact(values: Tensor) -> tuple[float, float, float]:
        r, g, b = (float(str(value)) for value in values.flatten().cpu().numpy())  # 73.15, not 73.1500015258789
        return r, g, b

    return NormaliseSpec(
        mean=exact(normalise.mean), std=exact(normalise.std), scale=normalise.scale, channels=normalise.channels
    )


def _with_tuples(data: dict) -> dict:
    """JSON has lists where the frozen dataclasses hold tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
