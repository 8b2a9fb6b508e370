from dataclasses import asdict
from pathlib import Path

from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.propagation import PropagationTraining
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.propagation_run import choose_recipe

OUT = Path("x.safetensors")
COMMON = {
    "steps": 11,
    "batch_size": 3,
    "learning_rate": 0.1,
    "flow_learning_rate": 0.2,
    "warmup_steps": 7,
    "distillation": 0.3,
    "flow_supervision": 0.4,
    "precision": "fp32",
    "seed": 5,
}
USUAL = asdict(PropagationTraining())


def test_every_option_of_train_propagation_reaches_the_loop():
    more = {"last_steps": 2, "optimiser": "sgd"}
    config = TrainPropagationConfig(keyframe=Path("k"), camvid=Path("c"), out=OUT, frames=4, **COMMON, **more)
    assert asdict(choose_recipe(config)) == USUAL | COMMON | more | {"num_frames": 4}


def test_every_option_of_adapt_reaches_the_loop():
    config = AdaptConfig(videos=("v.mp4",), keyframe_model="default", out=OUT, frames=4, **COMMON)
    assert asdict(choose_recipe(config)) == USUAL | COMMON | {"num_frames": 4}
