"""The networks that a training starts from: random weights, those of a checkpoint, or a checkpoint of other classes."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.arseg import ARSeg
from gsvnet.models.checkpoints import load_checkpoint, load_strictly
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model, describe_model
from gsvnet.models.transfer import image_network_of, replace_classes
from gsvnet.nn.resnet import initialise_for_training
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig

CAMVID_NORMALISE = NormaliseSpec(mean=(0.4119, 0.4251, 0.4327), std=(0.2741, 0.2851, 0.2828))


def start_keyframe_network(config: TrainKeyframeConfig) -> PerFrame:
    """A network for CamVid's classes and sizes, with random weights or with those of --init.

    From --init it keeps weights and normalisation; where its classes are others, its last layers are adopted by
    `replace_classes`. Raises ModelError when --init holds another family than --family.
    """
    if config.init is None:
        spec = ModelSpec(
            family=config.family or "swiftnet",
            classes=CAMVID,
            normalise=CAMVID_NORMALISE,
            size_rule=_size_rule(config),
            align_corners=False,
        )
        model = build_model(spec)
        assert isinstance(model, PerFrame)
        initialise_for_training(model)
    else:
        model = _load_image_network(config)
        if model.classes.names != CAMVID.names:
            model = replace_classes(model, CAMVID)
    if config.auxiliary_heads:
        model.net = add_auxiliary_heads(model.net, num_classes=len(CAMVID))
    return model


def _size_rule(config: TrainKeyframeConfig) -> SizeRule:
    """CamVid's 360 rows, whatever the video; a propagation grid of 90."""
    return SizeRule(rows=360, keyframe_scale=config.keyframe_scale, strides=(4,))


def _load_image_network(config: TrainKeyframeConfig) -> PerFrame:
    """The network of --init that labels single frames, in the conventions of training."""
    assert config.init is not None
    found = image_network_of(load_checkpoint(config.init))
    family = describe_model(found).family
    if config.family not in (None, family):
        raise ModelError(f"{config.init} holds {family}, --family asks for {config.family}; leave --family out")
    found.size_rule, found.align_corners, found.resize = _size_rule(config), False, "area"
    return found


def add_auxiliary_heads(net: nn.Module, *, num_classes: int) -> nn.Module:
    """A network that knows auxiliary heads with new ones, which only its training uses; any other as it is."""
    if not hasattr(net, "drop_auxiliary_heads"):
        return net
    full = type(net)(num_classes=num_classes, auxiliary_heads=True)
    initialise_for_training(full)
    full.load_state_dict(full.state_dict() | net.state_dict())
    return full


def drop_auxiliary_heads(net: nn.Module) -> None:
    """Take out, in place, what `add_auxiliary_heads` added."""
    drop = getattr(net, "drop_auxiliary_heads", None)
    if drop is not None:
        drop()


def start_propagation(config: TrainPropagationConfig) -> GSVNet:
    """The keyframe network of --keyframe with a new propagation, or with that of --init and its normalisation.

    Raises ModelError for networks that do not fit each other.
    """
    keyframe = load_checkpoint(config.keyframe)
    if isinstance(keyframe, ARSeg):
        keyframe = image_network_of(keyframe)
    spec = describe_model(keyframe)
    family = f"gsvnet-{spec.keyframe_family}"
    frame_normalise = spec.frame_normalise or spec.normalise
    options = {"intra": False} if config.without_intra else {}
    rule = spec.size_rule if config.stride is None else replace(spec.size_rule, strides=(config.stride,))
    spec = replace(
        spec, family=family, frame_normalise=frame_normalise, size_rule=rule, resize="area", propagation=options
    )
    model = build_model(spec)
    assert isinstance(model, GSVNet)
    model.keyframe_network.load_state_dict(image_network_of(keyframe).net.state_dict())
    if config.init is not None:
        start = load_checkpoint(config.init)
        if not isinstance(start, GSVNet) or start.classes.names != model.classes.names:
            raise ModelError(f"--init {config.init}: must hold a GSVNet with {model.classes.name} classes")
        load_strictly(model.propagation, start.propagation.state_dict(), source=f"--init {config.init}")
        model.frame_normalise = start.frame_normalise
    return model
