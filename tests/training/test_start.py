from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.checkpoints import save_checkpoint
from gsvnet.models.segmenter import Normalise, SizeRule
from gsvnet.models.spec import KEYFRAME_NETWORKS, ModelSpec, NormaliseSpec, build_model
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.start import (
    add_auxiliary_heads,
    drop_auxiliary_heads,
    start_keyframe_network,
    start_propagation,
)

FAMILIES = [
    pytest.param(family, marks=pytest.mark.slow if family == "pspnet101" else ()) for family in KEYFRAME_NETWORKS
]


def config(tmp_path, **options) -> TrainKeyframeConfig:
    return TrainKeyframeConfig(out=tmp_path / "k.safetensors", synthetic_scenes=2, **options)


@pytest.fixture
def city(tmp_path):
    """ESPNetv2 x0.5 for Cityscapes, corner-aligned, at 512 rows."""
    spec = ModelSpec(
        family="espnetv2",
        classes=CITYSCAPES,
        normalise=NormaliseSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        size_rule=SizeRule(rows=512),
        align_corners=True,
        network={"width": 0.5},
    )
    save_checkpoint(tmp_path / "city.safetensors", build_model(spec))
    return tmp_path / "city.safetensors"


def test_the_command_line_offers_every_family():
    literal, _ = get_args(get_type_hints(TrainKeyframeConfig)["family"])
    assert set(get_args(literal)) == set(KEYFRAME_NETWORKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_image_networks_can_be_trained(tmp_path, family):
    model = start_keyframe_network(config(tmp_path, family=family))
    assert isinstance(model.net, KEYFRAME_NETWORKS[family])
    assert model.classes is CAMVID


def test_a_network_of_other_classes_is_adopted_in_the_conventions_of_training(tmp_path, city):
    model = start_keyframe_network(config(tmp_path, init=city))
    assert model.classes == CAMVID
    assert model.net(torch.rand(1, 3, 64, 96)).shape == (1, 11, 32, 48)
    assert model.size_rule.rows == 360
    assert not model.align_corners
    assert model.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_network_may_read_larger_images_than_its_propagation_works_on(tmp_path, city):
    needs = start_keyframe_network(config(tmp_path, init=city, keyframe_scale=1.5)).needs(720, 960)
    assert needs.keyframe_size == (540, 720)
    with pytest.raises(ConfigError, match="--keyframe-scale 0"):
        config(tmp_path, keyframe_scale=0)


def test_another_family_than_asked_for_is_refused(tmp_path, city):
    with pytest.raises(ModelError, match=r"city\.safetensors holds espnetv2, --family asks for swiftnet"):
        start_keyframe_network(config(tmp_path, init=city, family="swiftnet"))


def test_bisenet_gets_auxiliary_heads_for_training_alone():
    net = BiSeNet(num_classes=11)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trained = add_auxiliary_heads(net, num_classes=11)
    assert set(trained.heads) == {"0", "1", "2"}
    drop_auxiliary_heads(trained)
    after = trained.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_auxiliary_heads_can_be_left_out(tmp_path):
    model = start_keyframe_network(config(tmp_path, family="bisenet", auxiliary_heads=False))
    assert not model.net.has_auxiliary_heads


def test_other_networks_have_no_auxiliary_heads():
    net = nn.Conv2d(3, 11, 1)
    assert add_auxiliary_heads(net, num_classes=11) is net


def test_a_propagation_can_be_trained_without_intra_features(tmp_path, city):
    options = {"keyframe": city, "out": tmp_path / "p.safetensors", "synthetic_clips": 1}
    without = start_propagation(TrainPropagationConfig(**options, without_intra=True))
    assert without.propagation.intra is None
    assert without.align_corners
    save_checkpoint(tmp_path / "without.safetensors", without)
    with pytest.raises(ModelError, match=r"--init .*without\.safetensors does not fit Propagation: missing intra"):
        start_propagation(TrainPropagationConfig(**options, init=tmp_path / "without.safetensors"))
    again = TrainPropagationConfig(**options, init=tmp_path / "without.safetensors", without_intra=True)
    assert start_propagation(again).propagation.intra is None


def test_a_propagation_that_is_started_from_sees_frames_as_before(tmp_path, city):
    options = {"keyframe": city, "out": tmp_path / "p.safetensors", "synthetic_clips": 1}
    before = start_propagation(TrainPropagationConfig(**options))
    before.frame_normalise = Normalise(mean=(73.0, 83.0, 72.0), std=(48.0, 48.0, 48.0), scale=1.0, channels="bgr")
    save_checkpoint(tmp_path / "before.safetensors", before)
    after = start_propagation(TrainPropagationConfig(**options, init=tmp_path / "before.safetensors"))
    image = torch.randint(0, 256, (3, 4, 4))
    assert torch.equal(after.frame_normalise(image), before.frame_normalise(image))
    assert torch.equal(after.keyframe_normalise(image), before.keyframe_normalise(image))


def test_a_propagation_can_be_trained_on_another_grid(tmp_path, city):
    grids = [
        start_propagation(
            TrainPropagationConfig(keyframe=city, out=tmp_path / "p.safetensors", synthetic_clips=1, stride=stride)
        )
        .needs(512, 1024)
        .frame_size
        for stride in (None, 4)
    ]
    assert grids == [(64, 128), (128, 256)]
