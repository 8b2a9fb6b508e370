from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.bisenet_trunk import BiSeNetTrunk
from gsvnet.models.checkpoints import load_checkpoint, save_checkpoint
from gsvnet.models.segmenter import Normalise, SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model, describe_model
from gsvnet.models.sub_network import SubNetwork
from gsvnet.models.tdnet import TDNet

NORMALISE = NormaliseSpec(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
SPEC = ModelSpec(
    family="gsvnet-espnetv2",
    classes=CAMVID,
    normalise=NORMALISE,
    frame_normalise=NORMALISE,
    size_rule=SizeRule(rows=64),
    network={"width": 0.5, "projection": 12},
)
ALTERED = ModelSpec(
    family="arseg-bisenetv1",
    classes=CAMVID,
    normalise=NORMALISE,
    size_rule=SizeRule(rows=64),
    align_corners=False,
    propagation={"scale": 0.75, "sampling": "published", "references": "both"},
)


def test_network_options_survive_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", build_model(SPEC))
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert describe_model(loaded) == SPEC
    assert loaded.keyframe_network.options == {"width": 0.5, "projection": 12}


def test_a_narrow_swiftnet_can_be_read_back(tmp_path):
    spec = replace(SPEC, family="swiftnet", frame_normalise=None, network={"features": 16})
    save_checkpoint(tmp_path / "m.safetensors", build_model(spec))
    assert describe_model(load_checkpoint(tmp_path / "m.safetensors")) == spec
    assert describe_model(build_model(replace(spec, network={}))).network == {}


def test_options_survive_json():
    assert ModelSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_a_spec_without_options_is_written_as_before_there_were_any():
    written = replace(SPEC, family="gsvnet-swiftnet", network={}).to_dict()
    assert not {"network", "propagation"} & written.keys()
    assert ModelSpec.from_dict(written).network == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"depth": 3}}, r"network option 'depth' is 3; options there are: width, projection"),
        ({"network": {"width": [2.0]}}, r"network option 'width' is \[2.0\]"),
        ({"network": [2.0]}, r"network is \[2.0\]"),
        ({"propagation": {"num_classes": 3}}, "propagation option 'num_classes'"),
        ({"family": "deeplab"}, "unknown model family 'deeplab'"),
        ({"frame_normalise": None}, "needs frame_normalise"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_dict(SPEC.to_dict() | changes)


def test_settings_of_altered_resolution_survive_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", build_model(ALTERED))
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert describe_model(loaded) == ALTERED
    assert (loaded.scale, loaded.sampling, loaded.references) == (0.75, "published", "both")
    assert loaded.fusion.key.weight.shape == (256, 1, 3, 3)


def test_altered_resolution_writes_its_defaults_down():
    described = describe_model(build_model(replace(ALTERED, propagation={})))
    assert described.propagation == {"scale": 0.5, "sampling": "exact", "references": "before"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"intra": False}, r"'intra' is False; options there are: scale, sampling, references"),
        ({"scale": "0.5"}, "scale '0.5'"),
        ({"scale": [0.5]}, r"'scale' is \[0.5\]"),
        ({"references": "after"}, "references 'after'; allowed"),
    ],
)
def test_settings_that_altered_resolution_does_not_know_are_refused(options, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_dict(ALTERED.to_dict() | {"propagation": options})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame_normalise": SPEC.to_dict()["normalise"]}, "has no frame_normalise"),
        ({"keyframe_size_rule": SPEC.to_dict()["size_rule"]}, "has no keyframe_size_rule"),
        ({"network": {"auxiliary_heads": True}}, "network option 'auxiliary_heads'.*options there are: none"),
    ],
)
def test_what_altered_resolution_would_not_use_is_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_dict(ALTERED.to_dict() | changes)


def test_an_unknown_width_is_refused_when_built():
    with pytest.raises(ModelError, match=r"width 0.7.*0\.5, 1\.0, 1\.5, 2\.0"), torch.device("meta"):
        build_model(replace(SPEC, network={"width": 0.7}))


DISTRIBUTED = ModelSpec(
    family="td4-bisenetv1",
    classes=CAMVID,
    normalise=NORMALISE,
    size_rule=SizeRule(rows=64),
    align_corners=False,
    propagation={
        "references": "both",
        "ensemble": "keyframes",
        "memory_stride": 2,
        "map_rows": 4,
        "map_columns": 6,
    },
)


def on_meta(spec):
    with torch.device("meta"):
        return build_model(spec)


def test_distributed_networks_are_rebuilt_from_their_description():
    model = on_meta(ModelSpec.from_dict(json.loads(json.dumps(DISTRIBUTED.to_dict()))))
    model.normalise = Normalise(mean=NORMALISE.mean, std=NORMALISE.std)
    assert describe_model(model) == DISTRIBUTED
    assert [tuple(part.norm.bias.shape) for part in model.sub_networks] == [(4, 6)] * 4


@pytest.mark.parametrize(("family", "stride"), [("td4-pspnet18", 4), ("td2-pspnet50", 4), ("td2-fanet18", 3)])
def test_distributed_networks_write_their_defaults_down(family, stride):
    model = on_meta(replace(DISTRIBUTED, family=family, propagation={}))
    wanted = {"references": "before", "ensemble": "none", "memory_stride": stride, "map_rows": 1, "map_columns": 1}
    assert model.options == wanted
    assert model.num_sub_networks == int(family[2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"map_rows": 10**9}, "map_rows 1000000000; allowed: a whole number from 1 to 4096"),
        ({"map_columns": 0}, "map_columns 0; allowed"),
        ({"map_columns": True}, "map_columns True; allowed"),
        ({"map_rows": 2.5}, r"map_rows 2\.5; allowed"),
        ({"map_rows": float("inf")}, "map_rows inf; allowed"),
        ({"memory_stride": 0}, "memory_stride 0; allowed"),
        ({"memory_stride": "4"}, "memory_stride '4'; allowed"),
        ({"references": "after"}, "references 'after'; allowed"),
        ({"ensemble": "some"}, "ensemble 'some'; allowed"),
        ({"scale": 0.5}, "option 'scale' is 0.5; options there are: references, ensemble, memory_stride, map_rows"),
        ({"map_rows": [4]}, r"'map_rows' is \[4\]"),
    ],
)
def test_settings_that_distributed_networks_do_not_know_are_refused(options, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_dict(DISTRIBUTED.to_dict() | {"propagation": options})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame_normalise": SPEC.to_dict()["normalise"]}, "has no frame_normalise"),
        ({"keyframe_size_rule": SPEC.to_dict()["size_rule"]}, "has no keyframe_size_rule"),
        ({"network": {"turn": 1}}, "network option 'turn'.*options there are: none"),
        ({"family": "td3-bisenetv1"}, "unknown model family 'td3-bisenetv1'"),
    ],
)
def test_what_distributed_networks_would_not_use_is_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_dict(DISTRIBUTED.to_dict() | changes)


def test_distributed_networks_of_another_number_have_no_checkpoint_format():
    with torch.device("meta"):
        parts = [
            SubNetwork(BiSeNetTrunk(turn=turn), num_classes=11, num_sub_networks=3, map_size=(1, 1))
            for turn in range(3)
        ]
    model = TDNet(parts, classes=CAMVID, normalise=Normalise(mean=(0, 0, 0), std=(1, 1, 1)))
    with pytest.raises(ModelError, match="no checkpoint format for 3 sub-networks on BiSeNetTrunk"):
        describe_model(model)
