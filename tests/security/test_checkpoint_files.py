"""Checkpoints from anybody: data is read, nothing is run, and a file that lies is refused in one line."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct

import pytest
import safetensors.torch
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models import checkpoints
from gsvnet.models.checkpoints import load_checkpoint, load_model
from gsvnet.models.published import convert_published
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec
from gsvnet.training.keyframe import KeyframeTraining
from gsvnet.training.state import load_state

PLAIN = NormaliseSpec(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
FLOATS = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def as_file(header: dict | bytes, data: bytes = b"", *, header_bytes: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if header_bytes is None else header_bytes) + text + data


def describing(**changes) -> bytes:
    """A checkpoint of one tensor that says it is a SwiftNet, with these changes."""
    described = ModelSpec(family="swiftnet", classes=CAMVID, normalise=PLAIN, size_rule=SizeRule(rows=96)).to_dict()
    about = json.dumps({"format_version": 1, "model": json.loads(json.dumps(described)) | changes})
    return as_file({"__metadata__": {"gsvnet": about}, "x": FLOATS}, bytes(8))


def refusal_of(data: bytes, folder) -> str:
    path = folder / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError) as refusal:
        load_checkpoint(path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


@pytest.mark.parametrize(
    "data",
    [
        as_file(b"{}", header_bytes=2**63),
        as_file(b"{}", header_bytes=200_000_000),
        as_file(b"[" * 100_000),
        as_file({"a": FLOATS, "b": FLOATS | {"data_offsets": [4, 12]}}, bytes(12)),
        as_file({"a": FLOATS | {"data_offsets": [8, 16]}}, bytes(16)),
        as_file({"a": FLOATS}),
        as_file({"a": FLOATS | {"shape": [2**40, 2**40]}}, bytes(8)),
        as_file({"a": FLOATS | {"shape": [2**62, 8], "data_offsets": [0, 0]}}),
        as_file({"a": FLOATS | {"shape": [-2]}}, bytes(8)),
        as_file({"a": FLOATS | {"dtype": "OBJECT"}}, bytes(8)),
    ],
    ids=[
        "a length of 8 EiB", "a length beyond the file", "deep nesting", "tensors that overlap", "a hole",
        "no data", "a shape beyond the data", "a shape that overflows", "a negative shape", "a type that is none",
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(data, tmp_path):
    assert "is no safetensors file" in refusal_of(data, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["[" * 500_000, '{"format_version": 1, "model": ' + "[" * 100_000 + "]" * 100_000 + "}"],
    ids=["cut", "whole"],
)
def test_metadata_that_is_nested_too_deeply_is_refused(text, tmp_path):
    assert "no JSON" in refusal_of(as_file({"__metadata__": {"gsvnet": text}}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "os:system"}, "unknown model family 'os:system'"),
        ({"family": "../../etc/passwd"}, "unknown model family"),
        ({"family": ["swiftnet"]}, "unknown model family"),
        ({"network": {"__class__": "os.system"}}, "network option '__class__'"),
        ({"network": {"features": -3}}, "no network can be built"),
        ({"network": {"features": 10**18}}, "no network can be built"),
        ({"network": {"features": "128"}}, "no network can be built"),
        ({"resize": "__import__('os').system('true')"}, "resize"),
        ({"align_corners": "yes"}, "align_corners"),
        ({"normalise": None}, "not a model description"),
        ({"normalise": {"mean": [0, 0], "std": [1, 1, 1]}}, "mean is (0, 0)"),
        ({"normalise": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "other than 0"),
        ({"normalise": {"mean": ["a", "b", "c"], "std": [1, 1, 1]}}, "three numbers"),
        ({"normalise": {"mean": [0, 0, 10**400], "std": [1, 1, 1]}}, "three numbers"),
        ({"size_rule": {"rows": 10**12}}, "rows is 1000000000000"),
        ({"size_rule": {"rows": 96, "strides": [0]}}, "strides are (0,)"),
        ({"size_rule": {"rows": 96, "strides": []}}, "strides are ()"),
        ({"size_rule": {"rows": 96, "keyframe_scale": 1e9}}, "keyframe_scale"),
        ({"classes": {"name": "c", "names": ["a"] * 1000, "colours": [[0, 0, 0]] * 1000}}, "1 to 255"),
        ({"entry_point": "os:system"}, "entry_point"),
    ],
)
def test_a_description_of_no_network_is_refused(changes, words, tmp_path):
    assert words in refusal_of(describing(**changes), tmp_path)


def test_a_small_file_cannot_ask_for_a_large_network(tmp_path, monkeypatch):
    build, devices = checkpoints.build_model, []

    def watch(spec):
        devices.append(torch.empty(0).device.type)
        return build(spec)

    monkeypatch.setattr(checkpoints, "build_model", watch)
    assert "does not fit" in refusal_of(describing(network={"features": 1000}), tmp_path)
    assert devices == ["meta"]  # where tensors have shapes and take no memory


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture(params=["torch", "torch, old", "pickle"])
def bomb(request, tmp_path):
    """A file that runs code where it is unpickled, and the file that tells of it."""
    path, mark = tmp_path / "bomb.pt", tmp_path / "exploded"
    if request.param == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    else:
        new = request.param == "torch"
        torch.save({"state_dict": Bomb(mark)}, path, _use_new_zipfile_serialization=new)
    return path, mark


def test_the_bomb_works(bomb):
    path, mark = bomb
    with contextlib.suppress(RuntimeError):  # of what it finds after the bomb
        torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_pickle_as_model_is_refused_and_runs_nothing(bomb, suffix):
    path, mark = bomb
    named = path.rename(path.with_suffix(suffix))
    with pytest.raises(ModelError) as refusal:
        load_model(str(named))
    assert "\n" not in str(refusal.value)
    assert not mark.exists()


def test_a_pickle_to_convert_is_refused_and_runs_nothing(bomb, tmp_path):
    path, mark = bomb
    with pytest.raises(ModelError, match="is refused") as refusal:
        convert_published("td4-pspnet18", path, None, tmp_path / "m.safetensors")
    assert "weights_only" not in str(refusal.value)  # torch's own words say how to run it all the same
    assert not mark.exists()


def test_a_training_folder_with_a_pickle_runs_nothing(bomb, tmp_path):
    path, mark = bomb
    path.rename(tmp_path / "state.pt")
    with pytest.raises(ConfigError, match="no state of a training"):
        load_state(tmp_path, KeyframeTraining())
    assert not mark.exists()


def test_a_checkpoint_that_was_renamed_to_a_factory_is_no_factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('exploded').touch()\n")
    with pytest.raises(ModelError):
        load_checkpoint("evil:make")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"gsvnet": '"evil:make"'})
    with pytest.raises(ModelError, match="no JSON mapping"):
        load_checkpoint("m.safetensors")
    assert not (tmp_path / "exploded").exists()
