"""The calibration of a network: kept in its checkpoint as data, checked when read, part of its description."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import safetensors
import safetensors.torch
import torch

from gsvnet.errors import ModelError
from gsvnet.models.calibration import calibration_of, keyframe_distances, set_calibration
from gsvnet.models.checkpoints import (
    content_hash,
    load_checkpoint,
    read_notes,
    save_checkpoint,
    write_calibrated,
)
from gsvnet.models.prepared import prepare_for_inference
from gsvnet.models.segmenter import LogitsBatch
from gsvnet.models.spec import ModelSpec, describe_model
from gsvnet.models.transfer import with_keyframe_scale
from gsvnet.nn.confidence import Calibration

CALIBRATION = Calibration(slope=0.79, shift=-0.04, shift_per_frame=0.07, farthest=11)


@pytest.fixture
def calibrated(tmp_path, tiny_model):
    path = tmp_path / "calibrated.safetensors"
    write_calibrated(tiny_model, path, CALIBRATION, notes={"data": "drawn"})
    return path


def test_a_checkpoint_keeps_its_calibration_and_the_same_weights(calibrated, tiny_model):
    model = load_checkpoint(calibrated)
    assert calibration_of(model) == CALIBRATION
    assert content_hash(model) == content_hash(load_checkpoint(tiny_model))
    assert read_notes(calibrated)[1]["calibration"] == {"data": "drawn"}


def test_a_model_without_calibration_is_described_as_before(tiny_model):
    model = load_checkpoint(tiny_model)
    assert calibration_of(model) is None
    assert "calibration" not in describe_model(model).to_dict()


def test_the_description_tells_the_calibration_in_plain_values(calibrated):
    spec = describe_model(load_checkpoint(calibrated))
    told = json.loads(json.dumps(spec.to_dict()))
    assert told["calibration"] == {"slope": 0.79, "shift": -0.04, "shift_per_frame": 0.07, "farthest": 11}
    assert ModelSpec.from_dict(told) == spec


def test_a_model_that_runs_in_another_way_keeps_its_calibration(calibrated):
    model = with_keyframe_scale(load_checkpoint(calibrated), 0.75)
    assert calibration_of(prepare_for_inference(model, device="cpu", precision="fp32")) == CALIBRATION


def test_a_model_that_is_saved_anew_has_no_calibration(calibrated, tmp_path):
    save_checkpoint(tmp_path / "trained.safetensors", load_checkpoint(calibrated))
    assert calibration_of(load_checkpoint(tmp_path / "trained.safetensors")) is None


def test_what_is_no_calibration_is_none(tiny_model):
    model = load_checkpoint(tiny_model)
    set_calibration(model, {"slope": 2})
    assert calibration_of(model) is None


@pytest.mark.parametrize("wrong", [{"slope": "steep"}, {"slope": 1.0, "code": 1}, [1.0], "1"])
def test_an_odd_calibration_in_a_file_is_refused(calibrated, tmp_path, wrong):
    with safetensors.safe_open(calibrated, framework="pt") as file:
        about = json.loads(file.metadata()["gsvnet"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about["model"]["calibration"] = wrong
    safetensors.torch.save_file(tensors, tmp_path / "odd.safetensors", metadata={"gsvnet": json.dumps(about)})
    with pytest.raises(ModelError, match=r"odd\.safetensors"):
        load_checkpoint(tmp_path / "odd.safetensors")


class TestKeyframeDistances:
    """Two chunks of three frames that begin at frames 10 and 13."""

    index = torch.tensor([[10, 11, 12], [13, 14, 15]])
    output = LogitsBatch(
        chunk=torch.tensor([0, 1, 1]), position=torch.tensor([0, 1, 2]), logits=torch.zeros(3, 2, 1, 1)
    )

    def test_are_to_the_first_frame_of_the_chunk(self):
        assert keyframe_distances(self.output, self.index, "keyframe").tolist() == [0, 1, 2]

    def test_are_to_the_keyframe_that_is_named(self):
        output = replace(self.output, keyframe=torch.tensor([10, 13, 16]))
        assert keyframe_distances(output, self.index, "keyframe").tolist() == [0, 1, 1]

    def test_are_to_the_start_inside_the_chunk(self):
        output = replace(self.output, start=torch.tensor([0, 1, 1]))
        assert keyframe_distances(output, self.index, "keyframe").tolist() == [0, 0, 1]

    def test_are_zero_where_there_are_no_keyframes(self):
        assert keyframe_distances(self.output, self.index, "itself").tolist() == [0, 0, 0]
