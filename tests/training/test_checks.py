from pathlib import Path

import pytest

from gsvnet.errors import ConfigError
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig

NEEDED = {
    TrainKeyframeConfig: {"camvid": Path("c")},
    TrainPropagationConfig: {"camvid": Path("c"), "keyframe": Path("k.safetensors")},
    AdaptConfig: {"videos": ("v.mp4",), "keyframe_model": "default"},
}


@pytest.fixture(params=NEEDED, ids=lambda kind: kind.__name__)
def make(request):
    """make(**changes): a config of each command."""
    return lambda **changes: request.param(**{"out": Path("x.safetensors")} | NEEDED[request.param] | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": Path("x.pt")}, "--out x.pt: must end in .safetensors"),
        ({"batch_size": 0}, "--batch-size 0: at least "),
        ({"warmup_steps": -1}, "--warmup-steps -1: at least 0"),
        ({"seed": -1}, "--seed -1: at least 0"),
        ({"distillation": -0.5}, "--distillation -0.5: at least 0"),
        ({"distillation": float("nan")}, "--distillation nan: at least 0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be positive"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be positive"),
        ({"weight_temper": 1.0}, "--weight-temper 1.0: must be above 1"),
        ({"hold_out": -0.1}, "--hold-out -0.1: "),
        ({"hold_out": 1.0}, "--hold-out 1.0: "),
    ],
)
def test_every_command_names_option_value_and_what_is_allowed(make, changes, message):
    make()
    with pytest.raises(ConfigError) as refusal:
        make(**changes)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("kind", [TrainPropagationConfig, AdaptConfig])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow_learning_rate": 0.0}, "--flow-learning-rate 0.0: must be positive"),
        ({"flow_supervision": -1.0}, "--flow-supervision -1.0: at least 0"),
        ({"stride": 0}, "--stride 0: at least 1"),
        ({"frames": 1}, "--frames 1: at least 2"),
    ],
)
def test_both_trainings_of_a_propagation_check_what_is_its_own(kind, changes, message):
    with pytest.raises(ConfigError) as refusal:
        kind(out=Path("x.safetensors"), **NEEDED[kind], **changes)
    assert str(refusal.value) == message
