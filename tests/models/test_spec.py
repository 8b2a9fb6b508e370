from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_checkpoint, save_checkpoint
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model, describe_model

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
