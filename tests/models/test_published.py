from __future__ import annotations

import argparse
import pickle

import pytest
import torch

from gsvnet.errors import ModelError
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.published import (
    KERNELS_NAME,
    convert_published,
    ideal_kernels,
    load_published_bisenet,
    load_published_propagation,
    load_published_swiftnet,
    published_name,
)
from gsvnet.models.swiftnet import SwiftNet


def published_propagation(num_classes: int = 19, **changes: object) -> dict:
    """A GSVNet training checkpoint as its authors write it, with random weights."""
    state = Propagation(num_classes=num_classes).state_dict()
    named = {published_name(name): tensor for name, tensor in state.items()} | {KERNELS_NAME: ideal_kernels()}
    return {
        "epoch": 1,
        "state_dict": {name: tensor for name, tensor in named.items() if name.startswith("grm.")},
        "state_dict_of": {name: tensor for name, tensor in named.items() if not name.startswith("grm.")},
        "optimizer": {},
        "best_pred": 0.0,
        "current_pred": 0.0,
        "args": argparse.Namespace(optical_flow_network="flownet", lr=0.04),
    } | changes


def written(contents: object, path):
    torch.save(contents, path)
    return path


def test_published_names_have_the_published_counts():
    file = published_propagation()
    assert (len(file["state_dict"]), len(file["state_dict_of"])) == (59, 51)


def test_a_propagation_file_with_a_namespace_loads_exactly(tmp_path):
    file = published_propagation()
    propagation = load_published_propagation(written(file, tmp_path / "g.tar"))
    assert torch.equal(
        propagation.guided_filter.guide.from_half[0].weight, file["state_dict"]["grm.guide.guide_deconv.5.weight"]
    )
    assert torch.equal(propagation.flow.dilated[3][1].bias, file["state_dict_of"]["conv_dilate_4.1.bias"])
    assert not propagation.training


def test_the_old_pickle_format_loads(tmp_path):
    torch.save(published_propagation(), tmp_path / "old.tar", _use_new_zipfile_serialization=False)
    load_published_propagation(tmp_path / "old.tar")


def test_a_data_parallel_prefix_is_taken_off(tmp_path):
    file = published_propagation()
    for key in ("state_dict", "state_dict_of"):
        file[key] = {f"module.{name}": tensor for name, tensor in file[key].items()}
    load_published_propagation(written(file, tmp_path / "g.tar"))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
def test_bisenet_loads_under_either_entry(wrapper, tmp_path):
    weights = BiSeNet(num_classes=19, auxiliary_heads=True).state_dict()
    network = load_published_bisenet(written({wrapper: weights} if wrapper else weights, tmp_path / "b.pth"))
    assert torch.equal(network.heads["2"].conv_1x1.weight, weights["heads.2.conv_1x1.weight"])
    assert set(network.heads) == {"2"}


def test_bisenet_without_its_auxiliary_heads_is_refused(tmp_path):
    path = written(BiSeNet(num_classes=19).state_dict(), tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"missing heads\.0\.conv_3x3\.conv\.weight.*and \d+ more"):
        load_published_bisenet(path)


def test_another_number_of_classes_is_refused_by_shape(tmp_path):
    path = written(SwiftNet(num_classes=11).state_dict(), tmp_path / "s.pt")
    with pytest.raises(
        ModelError, match=r"logits\.conv\.weight is \(11, 128, 1, 1\), the network has \(19, 128, 1, 1\)"
    ):
        load_published_swiftnet(path)
    assert load_published_swiftnet(path, num_classes=11).logits.conv.out_channels == 11


def test_swapped_files_are_refused(tmp_path):
    keyframe = written(SwiftNet(num_classes=19).state_dict(), tmp_path / "s.pt")
    propagation = written(published_propagation(), tmp_path / "g.tar")
    with pytest.raises(ModelError, match="needs the entries state_dict and state_dict_of"):
        load_published_propagation(keyframe)
    with pytest.raises(ModelError, match="does not fit SwiftNet"):
        load_published_swiftnet(propagation)
    with pytest.raises(ModelError, match="does not fit BiSeNet"):
        load_published_bisenet(keyframe)


def test_a_file_without_flow_is_refused(tmp_path):
    file = published_propagation()
    del file["state_dict_of"]
    with pytest.raises(ModelError, match="state_dict_of"):
        load_published_propagation(written(file, tmp_path / "g.tar"))


def test_trained_shift_kernels_are_refused(tmp_path):
    file = published_propagation()
    file["state_dict"][KERNELS_NAME] = ideal_kernels() * 0.9
    with pytest.raises(ModelError, match="trained kernels"):
        load_published_propagation(written(file, tmp_path / "g.tar"))
    del file["state_dict"][KERNELS_NAME]
    with pytest.raises(ModelError, match=r"missing grm\.ideal_dk"):
        load_published_propagation(written(file, tmp_path / "g.tar"))


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, capsys, zipped):
    file = published_propagation(args=Malicious())
    torch.save(file, tmp_path / "g.tar", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="refused"):
        load_published_propagation(tmp_path / "g.tar")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "contents", [b"", b"not a file of tensors", pickle.dumps({"a": 1}, protocol=2), b"PK\x03\x04 cut"]
)
def test_other_files_are_refused_in_one_line(tmp_path, contents):
    (tmp_path / "x.pt").write_bytes(contents)
    with pytest.raises(ModelError) as refusal:
        load_published_swiftnet(tmp_path / "x.pt")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_odd_contents_are_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot read"):
        load_published_swiftnet(tmp_path / "absent.pt")
    with pytest.raises(ModelError, match="expected a state dict"):
        load_published_swiftnet(written([1, 2], tmp_path / "list.pt"))
    with pytest.raises(ModelError, match="'epoch' is no tensor"):
        load_published_swiftnet(written({"epoch": 1}, tmp_path / "dict.pt"))


def test_converting_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(ModelError, match="gsvnet-swiftnet, gsvnet-bisenet"):
        convert_published("tdnet", "a.pt", "b.tar", tmp_path / "m.safetensors")
