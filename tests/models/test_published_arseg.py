from __future__ import annotations

from functools import cache

import pytest
import torch

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.arseg import CrossResolutionFusion
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.published import PUBLISHED, convert_published
from gsvnet.models.published_arseg import (
    load_published_frame_network,
    load_published_keyframe_network,
    published_arseg_name,
)
from gsvnet.models.spec import SPLIT_NETWORKS, describe_model

ALIASES = {
    "bisenetv1": {"final_conv": "conv_out.conv_out", "feat_conv_out": "conv_out.conv"},
    "pspnet18": {"final_conv": "cls.4"},
}
COUNTS = {"bisenetv1": (193, 199), "pspnet18": (142, 142), "pspnet18up": (133, 139)}  # with and without the fusion


def published(family: str, num_classes: int = 12, *, fused: bool = False) -> dict[str, torch.Tensor]:
    """A file as the authors' training writes it, with random weights."""
    return dict(_draw(family, num_classes, fused))


@cache
def _draw(family: str, num_classes: int, fused: bool) -> dict[str, torch.Tensor]:
    network = SPLIT_NETWORKS[family](num_classes=num_classes, auxiliary_heads=True)
    state = {published_arseg_name(family, name): tensor for name, tensor in network.state_dict().items()}
    for alias, first in ALIASES.get(family, {}).items():
        state |= {alias + name.removeprefix(first): state[name] for name in list(state) if name.startswith(f"{first}.")}
    if fused:
        fusion = CrossResolutionFusion(channels=network.feature_channels).state_dict()
        state |= {published_arseg_name("fusion", name): tensor for name, tensor in fusion.items()}
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.fixture
def write(tmp_path):
    """write(state, name): the path of a file that holds it."""

    def save(state: dict, name: str = "hr.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


def classes_of(count: int) -> ClassSet:
    return ClassSet(name="some", names=tuple(f"class {i}" for i in range(count)), colours=((0, 0, 0),) * count)


def load(path, family="bisenetv1", num_classes=12):
    return load_published_keyframe_network(path, family, classes_of(num_classes))


@pytest.mark.parametrize("family", COUNTS)
def test_published_names_have_the_published_counts(family):
    counts = tuple(
        sum(not name.endswith("num_batches_tracked") for name in published(family, fused=fused))
        for fused in ((False, True) if family != "pspnet18" else (True, True))
    )
    assert counts == COUNTS[family]


@pytest.mark.parametrize("family", COUNTS)
def test_both_files_become_one_checkpoint(family, write, tmp_path):
    count = 19 if family == "pspnet18" else 12
    high, altered = published(family, count), published(family, count, fused=True)
    out = tmp_path / "model.safetensors"
    convert_published(f"arseg-{family}", write(high), write(altered, "ar.pth"), out)
    model = load_checkpoint(out)
    classes = CITYSCAPES if count == 19 else CAMVID
    assert model.classes == classes
    assert (model.scale, model.sampling, model.references) == (0.5, "published", "before")
    key = f"module.{published_arseg_name(family, model.keyframe_network.classifiers[0] + '.bias')}"
    last = model.keyframe_network.get_submodule(model.keyframe_network.classifiers[0])
    assert torch.equal(last.bias, high[key][: len(classes)])
    last = model.frame_network.get_submodule(model.frame_network.classifiers[0])
    assert torch.equal(last.bias, altered[key][: len(classes)])
    assert torch.equal(model.fusion.key.weight, altered["module.fuse_attention.hr_key_conv.weight"])


@pytest.mark.parametrize(("count", "rows", "mean"), [(12, 720, 0.39068785), (19, 1024, 0.3257)])
def test_the_number_of_outputs_tells_the_data_set(count, rows, mean, write, tmp_path):
    convert_published("bisenetv1", write(published("bisenetv1", count)), None, tmp_path / "m.safetensors")
    spec = describe_model(load_checkpoint(tmp_path / "m.safetensors"))
    assert (spec.size_rule.rows, spec.normalise.mean[0], spec.resize) == (rows, mean, "exact")


def test_twelve_classes_of_your_own_keep_void(write, tmp_path):
    twelve = ClassSet(name="camvid-void", names=(*CAMVID.names, "void"), colours=(*CAMVID.colours, (0, 0, 0)))
    path = write(published("bisenetv1"))
    model = convert_published("bisenetv1", path, None, tmp_path / "m.safetensors", classes=twelve)
    assert model.net.head.conv_1x1.out_channels == 12


def test_names_without_the_data_parallel_prefix_load(write):
    state = {name.removeprefix("module."): tensor for name, tensor in published("bisenetv1").items()}
    assert torch.equal(load(write(state)).ffm.conv_1x1.bn.weight, state["ffm.convblk.bn.weight"])


def test_second_names_may_be_missing(write):
    state = {name: tensor for name, tensor in published("bisenetv1").items() if "final_conv" not in name}
    load(write(state))


def test_second_names_of_other_tensors_are_refused(write):
    state = published("bisenetv1")
    state["module.final_conv.bias"] = state["module.final_conv.bias"] + 1
    with pytest.raises(ModelError, match=r"final_conv\.bias and conv_out\.conv_out\.bias are two names"):
        load(write(state))


@pytest.mark.parametrize(("fused", "words"), [(True, "holds a fusion.*AR file"), (False, None)])
@pytest.mark.parametrize("family", ["bisenetv1", "pspnet18up"])
def test_an_altered_resolution_file_is_no_keyframe_file(family, fused, words, write):
    path = write(published(family, fused=fused))
    if words is None:
        assert not load(path, family).training
        return
    with pytest.raises(ModelError, match=words):
        load(path, family)


def test_a_file_without_fusion_is_no_altered_resolution_file(write):
    with pytest.raises(ModelError, match="holds no fusion"):
        load_published_frame_network(write(published("bisenetv1")), "bisenetv1", CAMVID)


@pytest.mark.parametrize("fused", [True, False])
def test_the_semseg_keyframe_file_may_or_may_not_hold_a_fusion(fused, write):
    load(write(published("pspnet18", 19, fused=fused)), "pspnet18", 19)


def test_half_a_fusion_is_refused(write):
    state = published("pspnet18", 19, fused=True)
    del state["module.fuse_attention.hr_key_conv.weight"]
    with pytest.raises(ModelError, match=r"missing fuse_attention\.hr_key_conv\.weight"):
        load(write(state), "pspnet18", 19)


def test_missing_unexpected_and_misshapen_tensors_are_named_in_the_files_words(write):
    state = published("bisenetv1")
    del state["module.cp.arm16.bn_atten.bias"]
    state["module.extra"] = torch.zeros(1)
    state["module.sp.conv1.conv.weight"] = torch.zeros(1)
    with pytest.raises(ModelError) as refusal:
        load(write(state))
    for words in ("missing cp.arm16.bn_atten.bias", "unexpected extra", "sp.conv1.conv.weight is (1,)"):
        assert words in str(refusal.value)


def test_other_numbers_of_classes_are_refused(write):
    with pytest.raises(ModelError, match=r"conv_out\.conv_out\.weight is \(12, 256, 1, 1\)"):
        load(write(published("bisenetv1")), num_classes=5)


@pytest.mark.parametrize(("count", "classes"), [(19, classes_of(18)), (12, classes_of(11)), (20, CITYSCAPES)])
def test_only_the_void_of_camvid_is_dropped(count, classes, write):
    with pytest.raises(ModelError, match=rf"conv_out\.conv_out\.bias is \({count},\)"):
        load_published_keyframe_network(write(published("bisenetv1", count)), "bisenetv1", classes)


def test_a_last_layer_that_is_a_single_number_is_refused(write):
    state = published("bisenetv1") | {"module.conv_out16.conv_out.bias": torch.tensor(1.0)}
    with pytest.raises(ModelError, match=r"conv_out16\.conv_out\.bias is \(\)"):
        load_published_keyframe_network(write(state), "bisenetv1", CAMVID)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (torch.Tensor.to_sparse, "sparse_coo"),
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: torch.empty_like(x, device="meta"), "meta"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(change, word, write):
    state = published("bisenetv1")
    state["module.cp.resnet.conv1.weight"] = change(state["module.cp.resnet.conv1.weight"])
    with pytest.raises(
        ModelError, match=rf"tensor module\.cp\.resnet\.conv1\.weight is .*{word}.*; allowed: dense, real"
    ):
        load(write(state))


def test_another_networks_file_is_refused(write, tmp_path):
    path = write(published("pspnet18", 19))
    with pytest.raises(ModelError, match="does not fit BiSeNetV1"):
        convert_published("bisenetv1", path, None, tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("family", "propagation", "words"),
    [("arseg-pspnet18", None, "needs --propagation"), ("pspnet18", "ar.pth", "leave out")],
)
def test_the_number_of_files_has_to_fit(family, propagation, words, tmp_path):
    with pytest.raises(ModelError, match=words):
        convert_published(family, "hr.pth", propagation, tmp_path / "m.safetensors")


def test_published_settings_are_those_of_each_data_set():
    assert PUBLISHED["arseg-pspnet18up"].classes == CAMVID
    assert PUBLISHED["arseg-pspnet18"].classes == CITYSCAPES
    assert {PUBLISHED[f"arseg-{name}"].align_corners for name in ("pspnet18", "pspnet18up")} == {True}
    assert not PUBLISHED["arseg-bisenetv1"].align_corners
