from __future__ import annotations

from functools import cache

import pytest
import torch

from gsvnet.classes import CITYSCAPES
from gsvnet.errors import ModelError
from gsvnet.evaluation.cost import measure_cost
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.pspnet_etc import PSPNet18ETC
from gsvnet.models.published import PUBLISHED, convert_published
from gsvnet.models.published_etc import load_published_etc, published_etc_name
from gsvnet.models.spec import build_model, describe_model

NAME = "layer4.1.conv2.weight"


@cache
def weights() -> dict[str, torch.Tensor]:
    """Of the network alone, random, by their published names."""
    state = PSPNet18ETC(num_classes=19, auxiliary_heads=True).state_dict()
    return {published_etc_name(name): tensor for name, tensor in state.items()}


def wrapped(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What their training saves: the student in a wrapper in data-parallel; None takes a tensor out."""
    named = {f"module.student.{name}": tensor for name, tensor in weights().items()}
    beside = ("flowNet.conv1.weight", "teacher.layer0.0.weight", "criterion_sd.convlstm.Gates.bias", "criterion.weight")
    named |= {f"module.{name}": torch.zeros(2) for name in beside} | changes
    return {name: tensor for name, tensor in named.items() if tensor is not None}


@pytest.fixture
def write(tmp_path):
    def save(state: dict):
        torch.save({"epoch": 200, "state_dict": state, "optimizer": {}}, tmp_path / "etc.pth")
        return tmp_path / "etc.pth"

    return save


def test_names_and_sizes_are_those_of_the_authors_network():
    names = [name for name in weights() if not name.endswith("num_batches_tracked")]
    assert len(names) == 134
    assert {name.split(".")[0] for name in names} == {
        "layer0",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "ppm",
        "cls",
        "aux",
    }
    assert weights()["cls.0.weight"].shape == (256, 1024, 3, 3)


def test_a_file_of_their_training_becomes_a_checkpoint(write, tmp_path):
    out = tmp_path / "model.safetensors"
    convert_published("pspnet18etc", write(wrapped()), None, out)
    model = load_checkpoint(out)
    assert (describe_model(model), model.classes) == (PUBLISHED["pspnet18etc"], CITYSCAPES)
    assert model.needs(720, 1280).keyframe_size == (1024, 1820)
    assert torch.equal(model.net.state_dict()[f"backbone.{NAME}"], weights()[NAME])
    assert not model.net.has_auxiliary_heads


def test_a_file_of_the_network_alone_is_read_too(write):
    network = load_published_etc(write({f"module.{name}": tensor for name, tensor in weights().items()}))
    assert torch.equal(network.classifier.bias, weights()["cls.4.bias"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"module.student.{NAME}": None}, rf"missing {NAME}"),
        ({f"module.student.{NAME}": None, f"module.teacher.{NAME}": torch.zeros(1)}, rf"missing {NAME}"),
        ({"module.student.layer5.flow.weight": torch.zeros(1)}, r"unexpected layer5\.flow\.weight"),
        ({"module.student.flow_head.weight": torch.zeros(1)}, r"unexpected flow_head\.weight"),
        ({"module.student.layer1.0.criterion": torch.zeros(1)}, r"unexpected layer1\.0\.criterion"),
        ({f"module.{NAME}": torch.zeros(1)}, rf"student\.{NAME} and {NAME} are both there"),
    ],
)
def test_no_layer_goes_missing_without_a_word(changes, words, write):
    with pytest.raises(ModelError, match=words):
        load_published_etc(write(wrapped(**changes)))


def test_it_multiplies_as_often_as_the_authors_network():
    with torch.device("meta"):  # counted, not computed
        model = build_model(PUBLISHED["pspnet18etc"])
    cost = measure_cost(model, height=1024, width=2048, keyframe_interval=1)
    assert cost.keyframe_macs / 1e9 == pytest.approx(462.5, abs=0.05)
    assert cost.keyframe_parameters_bytes == 4 * 13_804_371


def test_only_the_second_convolution_of_a_block_is_dilated():
    network = PSPNet18ETC(num_classes=2)
    for stage, dilation in ((network.backbone.layer3, 2), (network.backbone.layer4, 4)):
        assert [(block.conv1.dilation[0], block.conv2.dilation[0]) for block in stage] == [(1, dilation)] * 2
