import sys

import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import (
    keyframe_hash,
    load_checkpoint,
    load_model,
    read_notes,
    save_checkpoint,
    without_keyframe_network,
)
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import Normalise, SizeRule

FACTORIES = """
import torch
from torch import nn
from gsvnet.classes import CAMVID
from gsvnet.models.segmenter import Normalise, PerFrame, SizeRule

def make(seed=0, mean=0.5, rows=48, align_corners=False):
    torch.manual_seed(seed)
    normalise = Normalise(mean=(mean,) * 3, std=(0.25,) * 3)
    net = nn.Conv2d(3, len(CAMVID), 4, 4)
    rule = SizeRule(rows=rows)
    return PerFrame(net, classes=CAMVID, normalise=normalise, size_rule=rule, align_corners=align_corners)

def other_weights():
    return make(seed=1)
def other_normalise():
    return make(mean=0.4)
def other_rows():
    return make(rows=64)
def other_corners():
    return make(align_corners=True)
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> GSVNet:
    """A GSVNet over the network of somebodys_network:make."""
    (tmp_path / "somebodys_network.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_network", raising=False)
    keyframe = load_model("somebodys_network:make")
    torch.manual_seed(3)
    return GSVNet(
        keyframe.net,
        Propagation(num_classes=len(CAMVID)),
        classes=CAMVID,
        keyframe_normalise=keyframe.normalise,
        frame_normalise=Normalise(mean=(0.4,) * 3, std=(0.3,) * 3),
        size_rule=SizeRule(rows=48, strides=(8, 4)),
        keyframe_size_rule=keyframe.size_rule,
        align_corners=False,
    ).eval()


@pytest.fixture
def stored(own, tmp_path) -> str:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, without_keyframe_network(own), half=False)
    return str(path)


def test_a_propagation_alone_comes_back_under_its_keyframe_network(own, stored):
    model = load_model(stored, keyframe_model="somebodys_network:make")
    assert isinstance(model, GSVNet)
    assert keyframe_hash(model) == keyframe_hash(own)
    for name, tensor in own.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert (model.size_rule, model.keyframe_size_rule) == (own.size_rule, own.keyframe_size_rule)


def test_the_file_holds_no_tensor_of_the_keyframe_network(own, stored):
    assert all(name.startswith("propagation.") for name in load_checkpoint(stored).state_dict())
    spec, _ = read_notes(stored)
    assert spec.family == "gsvnet-outside"
    assert spec.network == {"sha256": keyframe_hash(own)}


def test_without_its_keyframe_network_it_says_what_is_missing(own, stored):
    with pytest.raises(
        ModelError, match=rf"w\.safetensors holds a propagation alone.*sha256 {keyframe_hash(own)[:12]}"
    ):
        load_model(stored)


def test_it_is_no_keyframe_network_itself(stored, tiny_model):
    with pytest.raises(ModelError, match=r"w\.safetensors holds a propagation alone"):
        load_model(str(tiny_model), keyframe_model=stored)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("other_weights", "this propagation was trained for"),
        ("other_normalise", "this propagation was trained for"),
        ("other_rows", "keyframe_size_rule is .*rows=64.*trained with .*rows=48"),
        ("other_corners", "align_corners is True; this propagation was trained with False"),
    ],
)
def test_another_keyframe_network_is_refused(stored, factory, message):
    with pytest.raises(ModelError, match=message):
        load_model(stored, keyframe_model=f"somebodys_network:{factory}")


def test_its_network_gives_no_logits(stored):
    with pytest.raises(ModelError, match="not in this checkpoint"):
        load_checkpoint(stored).keyframe_network(torch.zeros(1, 3, 48, 64))


def test_a_hash_that_is_none_is_refused(own):
    outside = without_keyframe_network(own).keyframe_network
    with pytest.raises(ModelError, match="64 hex digits"):
        type(outside)(num_classes=11, sha256="abc")


def test_the_hash_does_not_depend_on_the_propagation(own):
    before = keyframe_hash(own)
    nn.init.zeros_(own.propagation.flow.to_flow.weight)
    assert keyframe_hash(own) == before
    nn.init.zeros_(own.keyframe_network.weight)
    assert keyframe_hash(own) != before
