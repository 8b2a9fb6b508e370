"""What an adaptation starts from: the user's keyframe network, and the propagation that comes nearest."""

from __future__ import annotations

from dataclasses import replace

from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import DEFAULT_WEIGHTS, load_checkpoint, load_model
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import PerFrame
from gsvnet.models.spec import options_of
from gsvnet.training.adapt_config import AdaptConfig

STRIDES = (8, 4)


def start_model(config: AdaptConfig) -> tuple[GSVNet, str]:
    """--keyframe-model's network under the propagation that training starts from; and where that is from, in words.

    Raises ModelError for models that cannot be loaded or are neither PerFrame nor GSVNet.
    """
    keyframe = load_model(config.keyframe_model)
    if isinstance(keyframe, GSVNet):
        network, normalise = keyframe.keyframe_network, keyframe.keyframe_normalise
        keyframe_rule, strides = keyframe.keyframe_size_rule or keyframe.size_rule, keyframe.size_rule.strides
    elif isinstance(keyframe, PerFrame):
        network, normalise, keyframe_rule, strides = keyframe.net, keyframe.normalise, keyframe.size_rule, STRIDES
    else:
        kind = type(keyframe).__name__
        raise ModelError(f"--keyframe-model {config.keyframe_model} is a {kind}; needed: a PerFrame or a GSVNet")
    init = _find_init(config, keyframe)
    propagation, words = adopt_propagation(init, num_classes=len(keyframe.classes))
    model = GSVNet(
        network,
        propagation,
        classes=keyframe.classes,
        keyframe_normalise=normalise,
        frame_normalise=init.frame_normalise if init else normalise,
        size_rule=replace(keyframe.size_rule, strides=(config.stride,) if config.stride else strides),
        keyframe_size_rule=keyframe_rule,
        resize=keyframe.resize,
        align_corners=keyframe.align_corners,
    )
    return model.eval(), words


def adopt_propagation(source: GSVNet | None, *, num_classes: int) -> tuple[Propagation, str]:
    """A propagation for `num_classes` with all tensors of `source`'s that fit, the rest random; and that in words."""
    if source is None:
        return Propagation(num_classes=num_classes), "from random weights"
    propagation = Propagation(num_classes=num_classes, **options_of(source.propagation))
    own, given = propagation.state_dict(), source.propagation.state_dict()
    fitting = {name: given[name] for name, tensor in own.items() if given[name].shape == tensor.shape}
    propagation.load_state_dict(own | fitting)
    count = source.propagation.num_classes
    if len(fitting) == len(own):
        return propagation, f"from trained weights for {source.classes.name} ({count} classes)"
    return propagation, f"from weights for {count} classes; the parts that depend on the number of classes are random"


def _find_init(config: AdaptConfig, keyframe: GSVNet | PerFrame) -> GSVNet | None:
    """The model whose propagation to start from; None for random weights."""
    if config.init == "random":
        return None
    if config.init is None and isinstance(keyframe, GSVNet):
        return keyframe
    if config.init is None and not DEFAULT_WEIGHTS.is_file():
        return None
    init = load_checkpoint(DEFAULT_WEIGHTS if config.init in (None, "default") else config.init)
    if not isinstance(init, GSVNet):
        raise ModelError(f"--init {config.init}: holds no propagation, but a {type(init).__name__} network")
    return init
