"""What a network is, apart from its tensors: enough to rebuild it from a checkpoint or to start training it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.gsvnet import GSVNet, Propagation
from gsvnet.models.segmenter import Normalise, PerFrame, Resize, SizeRule
from gsvnet.models.swiftnet import SwiftNet

KEYFRAME_NETWORKS: dict[str, type[SwiftNet] | type[BiSeNet]] = {"swiftnet": SwiftNet, "bisenet": BiSeNet}
FAMILIES = (*KEYFRAME_NETWORKS, *(f"gsvnet-{name}" for name in KEYFRAME_NETWORKS))


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

    family: one of FAMILIES. normalise: of the keyframe network, or of every frame where there is no propagation.
    frame_normalise: of the propagation. size_rule, keyframe_size_rule, resize, align_corners: as in GSVNet.
    """

    family: str
    classes: ClassSet
    normalise: NormaliseSpec
    frame_normalise: NormaliseSpec | None = None
    size_rule: SizeRule
    keyframe_size_rule: SizeRule | None = None
    resize: Resize = "area"
    align_corners: bool = True

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ModelError(f"unknown model family {self.family!r}; known: {', '.join(FAMILIES)}")
        if self.family.startswith("gsvnet-") and self.frame_normalise is None:
            raise ModelError(f"family {self.family!r} needs frame_normalise, the propagation's normalisation")

    def to_dict(self) -> dict:
        """Plain JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

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
        except (KeyError, TypeError, ConfigError) as error:
            raise ModelError(f"not a model description: {error}") from error


def build_model(spec: ModelSpec) -> GSVNet | PerFrame:
    """The network of a spec with random weights, in training mode: what training starts from."""
    keyframe_name = spec.family.removeprefix("gsvnet-")
    network = KEYFRAME_NETWORKS[keyframe_name](num_classes=len(spec.classes))
    normalise = Normalise(**asdict(spec.normalise))
    if spec.frame_normalise is None or spec.family == keyframe_name:
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
        Propagation(num_classes=len(spec.classes)),
        classes=spec.classes,
        keyframe_normalise=normalise,
        frame_normalise=Normalise(**asdict(spec.frame_normalise)),
        size_rule=spec.size_rule,
        keyframe_size_rule=spec.keyframe_size_rule,
        resize=spec.resize,
        align_corners=spec.align_corners,
    )


def describe_model(model: nn.Module) -> ModelSpec:
    """The spec that `build_model` would rebuild `model` from. Raises ModelError for networks of no known family."""
    if not isinstance(model, GSVNet | PerFrame):
        raise ModelError(f"a checkpoint holds a GSVNet or a PerFrame network, not {type(model).__name__}")
    network = model.keyframe_network if isinstance(model, GSVNet) else model.net
    names = [name for name, kind in KEYFRAME_NETWORKS.items() if type(network) is kind]
    if not names:
        known = ", ".join(kind.__name__ for kind in KEYFRAME_NETWORKS.values())
        raise ModelError(f"no checkpoint format for a keyframe network {type(network).__name__}; known: {known}")
    if isinstance(model, PerFrame):
        return ModelSpec(
            family=names[0],
            classes=model.classes,
            normalise=_describe_normalise(model.normalise),
            size_rule=model.size_rule,
            resize=model.resize,
            align_corners=model.align_corners,
        )
    return ModelSpec(
        family=f"gsvnet-{names[0]}",
        classes=model.classes,
        normalise=_describe_normalise(model.keyframe_normalise),
        frame_normalise=_describe_normalise(model.frame_normalise),
        size_rule=model.size_rule,
        keyframe_size_rule=model.keyframe_size_rule,
        resize=model.resize,
        align_corners=model.align_corners,
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
