from pathlib import Path

import pytest

from gsvnet.errors import ConfigError
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig

NEEDED = {
    TrainKeyframeConfig: {"camvid": Path("c")},
    TrainPropagationConfig: {"camvid": Path("c"), "keyframe": Path("k.safetensors")},
    TrainArsegConfig: {"camvid": Path("c"), "keyframe": Path("k.safetensors")},
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
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be positive"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be positive"),
        ({"weight_temper": 1.0}, "--weight-temper 1.0: must be above 1"),
        ({"hold_out": -0.1}, "--hold-out -0.1: "),
        ({"hold_out": 1.0}, "--hold-out 1.0: "),
        ({"learning_rate": float("inf")}, "--learning-rate inf: must be a finite number"),
        ({"weight_temper": float("inf")}, "--weight-temper inf: must be a finite number"),
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


@pytest.mark.parametrize("kind", [TrainKeyframeConfig, TrainPropagationConfig, AdaptConfig])
@pytest.mark.parametrize("value", [-0.5, float("nan")])
def test_every_training_with_a_teacher_checks_how_much_it_counts(kind, value):
    with pytest.raises(ConfigError, match=f"--distillation {value}: at least 0"):
        kind(out=Path("x.safetensors"), **NEEDED[kind], distillation=value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camvid": None}, "nothing to train on"),
        ({"camvid": None, "synthetic_clips": 1, "hold_out": 0.2}, "--hold-out: only stills"),
        ({"scale": 1.0}, "--scale 1.0: must be above 0 and below 1"),
        ({"keyframe_interval": 1}, "--keyframe-interval 1: at least 2"),
        ({"synthetic_clips": 1, "synthetic_frames": 11}, "--synthetic-frames 11: at least 12"),
        ({"unlabelled": ("v.mp4",), "video_frames": 11}, "--video-frames 11: at least 12"),
        ({"pairs_per_run": 12}, "--pairs-per-run 12: at most 11, one less than --keyframe-interval"),
        ({"own_labels": True}, "--own-labels: is about drawn streets"),
        ({"without_fusion": True, "references": "both"}, "--references both: with --without-fusion"),
        ({"scale": float("nan")}, "--scale nan: must be above 0"),
        ({"feature_weight": float("inf")}, "--feature-weight inf: must be a finite number"),
        ({"pairs": 7}, "--pairs 7: at least 8"),
        ({"feature_weight": -1.0}, "--feature-weight -1.0: at least 0"),
        ({"fusion_learning_rate": 0.0}, "--fusion-learning-rate 0.0: must be positive"),
        ({"still_share": 0.0}, "--still-share 0.0: must be positive"),
    ],
)
def test_train_arseg_checks_what_is_its_own(changes, message):
    with pytest.raises(ConfigError) as refusal:
        TrainArsegConfig(**{"out": Path("x.safetensors")} | NEEDED[TrainArsegConfig] | changes)
    assert str(refusal.value).startswith(message)


def test_frames_of_a_source_that_is_not_used_are_not_checked():
    needed = {"out": Path("x.safetensors")} | NEEDED[TrainArsegConfig]
    assert TrainArsegConfig(**needed, keyframe_interval=30).synthetic_frames == 24
