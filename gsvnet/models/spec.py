"""What a network is, apart from its tensors: enough to rebuild it from a checkpoint or to start training it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models import arseg, tdnet
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.bisenet_trunk import BiSeNetTrunk
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.calibration import calibration_of, set_calibration
from gsvnet.models.espnetv2 import ESPNetv2
from gsvnet.models.fanet import FANetTrunk18
from gsvnet.models.fastscnn import FastSCNN
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.outside import OutsideNetwork
from gsvnet.models.plausible import check_normalise, check_sizes
from gsvnet.models.propagation import Propagation
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet101 import PSPNet101
from gsvnet.models.pspnet_etc import PSPNet18ETC
from gsvnet.models.pspnet_trunk import PSPTrunk18, PSPTrunk50
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.models.segmenter import Normalise, PerFrame, Resize, SizeRule
from gsvnet.models.split import SplitNetwork
from gsvnet.models.sub_network import SubNetwork
from gsvnet.models.swiftnet import SwiftNet
from gsvnet.models.tdnet import TDNet
from gsvnet.models.transfer import image_network_of
from gsvnet.models.trunk import Trunk
from gsvnet.nn.confidence import Calibration

SPLIT_NETWORKS: dict[str, Callable[..., SplitNetwork]] = {
    "bisenetv1": BiSeNetV1,
    "pspnet18": PSPNet18,
    "pspnet18etc": PSPNet18ETC,
    "pspnet18up": PSPNet18Up,
}
"""The image networks that AR-Seg can be built of."""
KEYFRAME_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "swiftnet": SwiftNet,
    "bisenet": BiSeNet,
    "fastscnn": FastSCNN,
    "espnetv2": ESPNetv2,
    "pspnet101": PSPNet101,
    **SPLIT_NETWORKS,
}
TRUNKS: dict[str, Callable[..., Trunk]] = {
    "pspnet18": PSPTrunk18,
    "pspnet50": PSPTrunk50,
    "fanet18": FANetTrunk18,
    "bisenetv1": BiSeNetTrunk,
}
"""What TDNet's sub-networks can begin with."""
NUM_SUB_NETWORKS = {"td4-pspnet18": 4, "td2-pspnet50": 2, "td2-fanet18": 2, "td4-bisenetv1": 4}
"""TDNet's families, each "td", the number of its sub-networks, and their trunk."""
FAMILIES = (
    *KEYFRAME_NETWORKS,
    *(f"gsvnet-{name}" for name in KEYFRAME_NETWORKS),
    *(f"arseg-{name}" for name in SPLIT_NETWORKS),
    *NUM_SUB_NETWORKS,
)
OUTSIDE_FAMILY = "gsvnet-outside"  # a propagation alone, made by `gsvnet adapt` for a network that is not ours to store
_KINDS = KEYFRAME_NETWORKS | {"outside": OutsideNetwork}
StoredModel = GSVNet | PerFrame | ARSeg | TDNet
"""What a checkpoint can hold."""


@dataclass(frozen=True, kw_only=True)
class NormaliseSpec:
    """The arguments of `Normalise`: RGB pixels in 0..255 -> (x / scale - mean) / std in `channels` order."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 255.0
    channels: str = "rgb"

    def __post_init__(self) -> None:
        check_normalise(self.mean, self.std, self.scale, self.channels)


IMAGENET_NORMALISE = NormaliseSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Of most published weights: the mean and the spread of ImageNet's pixels."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that a network is, apart from its tensors.

    family: one of FAMILIES, or OUTSIDE_FAMILY. normalise: of the keyframe network, or of every frame where there is no
    propagation, or where it is AR-Seg or TDNet. frame_normalise: of GSVNet's propagation. size_rule,
    keyframe_size_rule, resize, align_corners: as in GSVNet, ARSeg and TDNet.
    network, propagation: JSON-ready constructor options of the keyframe network, besides the number of classes, and of
    what carries it to other frames: of Propagation, or what `check_settings` of ARSeg or TDNet takes. A built module
    that has any tells them by its attribute `options`. calibration: what makes its confidence the share of pixels that
    are right; None: not measured. Labels do not depend on it.
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
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.family not in (*FAMILIES, OUTSIDE_FAMILY):
            raise ModelError(f"unknown model family {self.family!r}; known: {', '.join(FAMILIES)}")
        if self.family.startswith("gsvnet-") and self.frame_normalise is None:
            raise ModelError(f"family {self.family!r} needs frame_normalise, the propagation's normalisation")
        for rule in filter(None, (self.size_rule, self.keyframe_size_rule)):
            check_sizes(rule, self.resize, self.align_corners)
        kind = _KINDS.get(self.keyframe_family)
        _check_options("network", self.network, _option_names(kind) if kind else [])
        checks = self._settings_check()
        if checks is None:
            _check_options("propagation", self.propagation, _option_names(Propagation))
            return
        for name in ("frame_normalise", "keyframe_size_rule"):
            if getattr(self, name) is not None:
                raise ModelError(f"family {self.family!r} has no {name}: all its networks read alike; leave it out")
        _check_options("propagation", self.propagation, _option_names(checks))
        checks(**self.propagation)

    def _settings_check(self) -> Callable[..., None] | None:
        """What refuses settings of networks that all read alike; None for other families."""
        if self.family in NUM_SUB_NETWORKS:
            return tdnet.check_settings
        return arseg.check_settings if self.family.startswith("arseg-") else None

    @property
    def keyframe_family(self) -> str:
        """The image network's name in KEYFRAME_NETWORKS; of TDNet, which has no keyframes, the family itself."""
        return self.family.removeprefix("gsvnet-").removeprefix("arseg-")

    def to_dict(self) -> dict:
        """Plain JSON-ready form; `from_dict` reads it back. What is empty is left out, as in older checkpoints."""
        data = asdict(self)
        for key in ("network", "propagation", "calibration"):
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
                is_needed = key in ("normalise", "size_rule")
                parts[key] = kind(**_with_tuples(parts[key])) if is_needed or parts.get(key) is not None else None
            if parts.get("calibration") is not None:
                parts["calibration"] = Calibration(**parts["calibration"])
            return cls(**parts)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise ModelError(f"not a model description: {error}") from error


def build_model(spec: ModelSpec) -> StoredModel:
    """The network of a spec with random weights, in training mode: what training starts from."""
    model = _build_network(spec)
    set_calibration(model, spec.calibration)
    return model


def _build_network(spec: ModelSpec) -> StoredModel:
    normalise = Normalise(**asdict(spec.normalise))
    if spec.family.startswith("arseg-"):
        return _build_arseg(spec, normalise)
    if spec.family in NUM_SUB_NETWORKS:
        return _build_tdnet(spec, normalise)
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


def _build_tdnet(spec: ModelSpec, normalise: Normalise) -> TDNet:
    settings, count = dict(spec.propagation), NUM_SUB_NETWORKS[spec.family]
    map_size = settings.pop("map_rows", 1), settings.pop("map_columns", 1)
    kind = TRUNKS[spec.family.split("-", 1)[1]]
    return TDNet(
        [
            SubNetwork(kind(turn=turn), num_classes=len(spec.classes), num_sub_networks=count, map_size=map_size)
            for turn in range(count)
        ],
        classes=spec.classes,
        normalise=normalise,
        size_rule=spec.size_rule,
        resize=spec.resize,
        align_corners=spec.align_corners,
        **settings,
    )


def describe_model(model: nn.Module) -> ModelSpec:
    """The spec that `build_model` would rebuild `model` from. Raises ModelError for networks of no known family."""
    return replace(_describe_network(model), calibration=calibration_of(model))


def _describe_network(model: nn.Module) -> ModelSpec:
    if isinstance(model, TDNet):
        return _describe_tdnet(model)
    if not isinstance(model, GSVNet | PerFrame | ARSeg):
        known = "a GSVNet, an ARSeg, a TDNet or a PerFrame network"
        raise ModelError(f"a checkpoint holds {known}, not {type(model).__name__}")
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


def _describe_tdnet(model: TDNet) -> ModelSpec:
    trunk = type(model.sub(0).trunk)
    names = [name for name, kind in TRUNKS.items() if trunk is kind]
    family = f"td{model.num_sub_networks}-{names[0]}" if names else ""
    if family not in NUM_SUB_NETWORKS:
        raise ModelError(
            f"no checkpoint format for {model.num_sub_networks} sub-networks on {trunk.__name__}; "
            f"known: {', '.join(NUM_SUB_NETWORKS)}"
        )
    return ModelSpec(
        family=family,
        classes=model.classes,
        normalise=_describe_normalise(model.normalise),
        size_rule=model.size_rule,
        resize=model.resize,
        align_corners=model.align_corners,
        propagation=options_of(model),
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
