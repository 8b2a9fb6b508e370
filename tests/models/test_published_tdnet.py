from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.published import PUBLISHED, convert_published
from gsvnet.models.published_tdnet import (
    PUBLISHED_TDNET,
    load_published_pspnet101,
    published_tdnet_name,
    read_published_tdnet,
)
from gsvnet.models.spec import build_model, describe_model

COUNTS = {"td4-pspnet18": 620, "td2-pspnet50": 652, "td2-fanet18": 518, "pspnet101": 559}
MAP = 3, 5
FC = tuple(f"pretrained{i}.fc." for i in (1, 2, 3, 4))


@cache
def published(family: str) -> dict[str, Tensor]:
    """A file as the authors write it: zeros, of which the pyramids' rows and the norms' maps are numbered."""
    spec = PUBLISHED[family]
    with torch.device("meta"):
        network = build_model(spec)
    state = (network.net if family == "pspnet101" else network).state_dict()
    file = {}
    for name, tensor in state.items():
        shape = list(tensor.shape)
        if ".pyramid." in name and shape and family != "pspnet101":
            shape[0] *= 2
        if ".norm." in name:
            shape = list(MAP)
        file[published_tdnet_name(family, name)] = zeros(*shape, dtype=tensor.dtype)
    for name in [name for name in file if name.endswith("conv3.0.weight")]:
        file[name] = torch.arange(len(file[name])).float()[:, None, None, None].expand(file[name].shape)
    return file | dead(family)


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros((), dtype=dtype).expand(shape)  # one number in memory and on disk


def dead(family: str) -> dict[str, Tensor]:
    """What is in the file and used by nothing."""
    if family != "td2-fanet18":
        count, features = {"td4-pspnet18": (4, 512), "td2-pspnet50": (2, 2048), "pspnet101": (0, 2048)}[family]
        names = [f"pretrained{i + 1}.fc" for i in range(count)] or ["pretrained.fc"]
        weights = {f"{name}.weight": zeros(1000, features) for name in names}
        return weights | {f"{name}.bias": zeros(1000) for name in names}
    file = {}
    for i in (1, 2):
        file |= normed(f"ffm_4_{i}.up", 32, 64)
        file |= normed(f"ffm_8_{i}.smooth", 128, 128, kernel=3)
        file |= normed(f"ffm_32_{i}.smooth", 128, 512, kernel=3)
        file |= normed(f"head_aux{i}.conv", 64, 128, kernel=3)
        file[f"head_aux{i}.conv_out.weight"] = zeros(19, 64, 1, 1)
    return file


def normed(name: str, channels: int, in_channels: int, kernel: int = 1) -> dict[str, Tensor]:
    leaves = ("weight", "bias", "running_mean", "running_var")
    norm = {f"{name}.bn.{leaf}": zeros(channels) for leaf in leaves}
    count = {f"{name}.bn.num_batches_tracked": torch.tensor(0)}
    return {f"{name}.conv.weight": zeros(channels, in_channels, kernel, kernel)} | norm | count


@pytest.fixture
def write(tmp_path):
    """write(state): the path of a file that holds it."""

    def save(state: object):
        torch.save(state, tmp_path / "published.pkl")
        return tmp_path / "published.pkl"

    return save


@pytest.mark.parametrize("family", COUNTS)
def test_published_names_have_the_published_counts(family):
    assert sum(not name.endswith("num_batches_tracked") for name in published(family)) == COUNTS[family]


def test_each_hop_is_the_authors_module_for_that_pair():
    names = [
        [published_tdnet_name("td4-pspnet18", f"sub_networks.{i}.hops.{j}.bias") for j in range(3)] for i in range(4)
    ]
    assert [[name.removesuffix(".fc.0.conv.bias") for name in of_one] for of_one in names] == [
        ["atn1_2", "atn1_3", "atn1_4"],
        ["atn2_3", "atn2_4", "atn2_1"],
        ["atn3_4", "atn3_1", "atn3_2"],
        ["atn4_1", "atn4_2", "atn4_3"],
    ]
    assert published_tdnet_name("td2-pspnet50", "sub_networks.1.hops.0.weight") == "atn2.fc.0.conv.weight"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("sub_networks.0.trunk.backbone.stem.1.bn.bias", "pretrained1.conv1.4.bias"),
        ("sub_networks.1.trunk.backbone.stem.2.conv.weight", "pretrained2.conv1.6.weight"),
        ("sub_networks.1.trunk.backbone.stem.2.bn.weight", "pretrained2.bn1.weight"),
        ("sub_networks.0.trunk.pyramid.stages.3.1.bn.weight", "psp1.conv4.1.weight"),
        ("sub_networks.1.key.3.bias", "enc2.w_ks.1.conv.bias"),
        ("sub_networks.1.head.2.bias", "head2.conv5.4.bias"),
    ],
)
def test_names_of_the_large_network(ours, theirs):
    assert published_tdnet_name("td2-pspnet50", ours) == theirs


def test_each_sub_network_keeps_its_half_of_the_pyramid(write):
    _, tensors = read_published_tdnet("td4-pspnet18", write(published("td4-pspnet18")))
    names = [f"sub_networks.{i}.trunk.pyramid.stages.2.1.conv.weight" for i in range(4)]
    rows = [tensors[name][:, 0, 0, 0] for name in names]
    assert [(row[0].item(), row[-1].item(), len(row)) for row in rows] == [(0, 63, 64), (64, 127, 64)] * 2


def test_a_training_file_becomes_a_checkpoint(write, tmp_path):
    weights = {f"module.{name}": tensor for name, tensor in published("td2-fanet18").items()}
    weights["module.layer_norm2.ln.bias"] = torch.arange(15.0).reshape(MAP)
    path = write({"epoch": 3, "model_state": weights, "best_iou": 0.5})
    convert_published("td2-fanet18", path, None, tmp_path / "m.safetensors")
    model = load_checkpoint(tmp_path / "m.safetensors")
    spec = describe_model(model)
    assert (spec.classes, spec.size_rule.rows, spec.resize, spec.align_corners) == (CITYSCAPES, 768, "exact", True)
    assert model.options == {
        "references": "before",
        "ensemble": "none",
        "memory_stride": 3,
        "map_rows": 3,
        "map_columns": 5,
    }
    assert torch.equal(model.sub(1).norm.bias, weights["module.layer_norm2.ln.bias"])
    assert not model.training


def test_published_settings():
    assert PUBLISHED["td4-pspnet18"].propagation["memory_stride"] == 4
    assert {PUBLISHED[family].size_rule.rows for family in ("td4-pspnet18", "td2-pspnet50", "pspnet101")} == {769}
    assert {PUBLISHED[family].normalise.mean for family in COUNTS} == {(0.485, 0.456, 0.406)}


def test_heads_for_training_and_lost_classifiers_do_no_harm(write):
    state = {name: tensor for name, tensor in published("td4-pspnet18").items() if not name.startswith(FC)}
    assert len(state) == len(published("td4-pspnet18")) - 8
    added = {"auxlayer4.conv5.0.weight": zeros(2), "auxlayer1.conv5.4.bias": zeros(2)}
    _, tensors = read_published_tdnet("td4-pspnet18", write(state | added))
    assert sum(not name.endswith("num_batches_tracked") for name in tensors) == 620 - 8


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("pretrained3.fc.weight", zeros(1000, 511), r"pretrained3\.fc\.weight is \(1000, 511\)"),
        ("psp2.conv1.0.weight", zeros(64, 512, 1, 1), r"psp2\.conv1\.0\.weight is \(64,.*the network has \(128,"),
        ("auxlayer5.conv5.0.weight", zeros(1), r"unexpected auxlayer5\.conv5\.0\.weight"),
        ("atn1_1.fc.0.conv.bias", zeros(512), r"unexpected atn1_1\.fc\.0\.conv\.bias"),
        ("layer_norm3.ln.weight", zeros(5, 3), r"layer_norm3\.ln\.weight is \(5, 3\), the network has \(3, 5\)"),
        ("layer_norm1.ln.weight", zeros(15), r"layer_norm1\.ln\.weight is \(15,\); a spatial norm has a map"),
        ("layer_norm1.ln.weight", zeros(4097, 5), "map_rows 4097; allowed: a whole number from 1 to 4096"),
        ("layer_norm1.ln.weight", None, r"is no TDNet: missing layer_norm1\.ln\.weight"),
        ("enc4.w_vs.0.conv.bias", None, r"missing enc4\.w_vs\.0\.conv\.bias"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_their_own_words(name, tensor, words, write):
    state = {key: value for key, value in published("td4-pspnet18").items() if key != name}
    with pytest.raises(ModelError, match=words):
        read_published_tdnet("td4-pspnet18", write(state if tensor is None else state | {name: tensor}))


def test_other_numbers_of_classes_are_refused(write):
    with pytest.raises(ModelError, match=r"head1\.conv5\.4\.weight is \(19, 128, 1, 1\), the network has \(11,"):
        read_published_tdnet("td4-pspnet18", write(published("td4-pspnet18")), CAMVID)


def test_dead_parts_of_another_shape_are_refused(write):
    state = published("td2-fanet18") | {"head_aux2.conv.bn.weight": zeros(65)}
    with pytest.raises(ModelError, match=r"head_aux2\.conv\.bn\.weight is \(65,\), the network has \(64,\)"):
        read_published_tdnet("td2-fanet18", write(state))


def test_a_file_of_another_network_is_refused(write):
    path = write(published("td2-pspnet50"))
    with pytest.raises(ModelError, match="does not fit TDNet: missing"):
        read_published_tdnet("td2-fanet18", path)


def test_the_teachers_file_may_not_lack_a_layer(write):
    state = {name: tensor for name, tensor in published("pspnet101").items() if name != "head.conv5.2.bias"}
    with pytest.raises(ModelError, match=r"does not fit PSPNet101: missing head\.conv5\.2\.bias"):
        load_published_pspnet101(write(state))


@pytest.mark.parametrize("family", PUBLISHED_TDNET)
def test_tdnet_is_one_file(family, tmp_path):
    with pytest.raises(ModelError, match="leave out --propagation"):
        convert_published(family, "td.pkl", "ar.pth", tmp_path / "m.safetensors")
