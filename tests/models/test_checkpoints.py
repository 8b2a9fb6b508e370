from __future__ import annotations

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.errors import ModelError
from gsvnet.models import checkpoints
from gsvnet.models.checkpoints import load_checkpoint, load_model, read_notes, save_checkpoint
from gsvnet.models.content_hash import content_hash
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.noise import draw_chunks
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import ChunkBatch, PerFrame, SizeRule
from gsvnet.models.spec import FAMILIES, ModelSpec, NormaliseSpec, build_model, describe_model

GRID = SizeRule(rows=96, strides=(8, 4), min_grid_rows=20)
LARGE = ("pspnet101", "td2-pspnet50", "td4-pspnet18", "td4-bisenetv1")
MIXED = NormaliseSpec(mean=(73.15, 82.90, 72.3), std=(47.67, 48.49, 47.73), scale=1.0, channels="bgr")


def spec_of(family: str, classes: ClassSet = CAMVID) -> ModelSpec:
    propagated = None if family.startswith(("arseg-", "td")) else MIXED
    return ModelSpec(family=family, classes=classes, normalise=MIXED, frame_normalise=propagated, size_rule=GRID)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A GSVNet over BiSeNet with random weights, and its checkpoint in full precision."""
    torch.manual_seed(0)
    model = build_model(spec_of("gsvnet-bisenet")).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(path, model, half=False, notes={"miou": 52.5})
    return model, path


def tiny_chunk(model) -> ChunkBatch:
    return draw_chunks(model, height=96, width=128, num_chunks=1, interval=2, device="cpu")


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] if name.endswith(LARGE) else []) for name in FAMILIES]
)
def test_a_saved_model_loads_with_the_same_settings_and_logits(family, tmp_path):
    model = build_model(spec_of(family)).eval()
    save_checkpoint(tmp_path / "m.safetensors", model, half=False)
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    chunk = tiny_chunk(model)
    with torch.no_grad():
        for a, b in zip(model.segment(chunk), loaded.segment(chunk), strict=True):
            assert torch.equal(a.logits, b.logits)
    assert describe_model(loaded) == describe_model(model)
    assert not loaded.training


def test_half_precision_on_disk_is_half_as_large_and_float32_in_memory(saved, tmp_path):
    model, path = saved
    save_checkpoint(tmp_path / "half.safetensors", model)
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.51 * path.stat().st_size
    assert {t.dtype for t in loaded.parameters()} == {torch.float32}
    for name, tensor in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), tensor.half().float() if tensor.ndim > 1 else tensor)


def test_a_weight_beyond_float16_is_kept_in_float32(tmp_path):
    model = build_model(spec_of("bisenet"))
    model.net.heads["2"].conv_1x1.weight.data[0, 0] = 1e6
    save_checkpoint(tmp_path / "m.safetensors", model)
    assert load_checkpoint(tmp_path / "m.safetensors").net.heads["2"].conv_1x1.weight[0, 0].item() == 1e6


def test_the_same_model_gives_the_same_bytes(saved, tmp_path):
    model, path = saved
    save_checkpoint(tmp_path / "again.safetensors", model, half=False, notes={"miou": 52.5})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_notes_and_spec_are_read_back(saved):
    spec, notes = read_notes(saved[1])
    assert notes == {"miou": 52.5}
    assert spec == describe_model(saved[0])


@pytest.mark.parametrize("family", list(PUBLISHED))
def test_published_settings_survive_json(family):
    assert ModelSpec.from_dict(json.loads(json.dumps(PUBLISHED[family].to_dict()))) == PUBLISHED[family]


def test_auxiliary_heads_are_not_saved(tmp_path):
    from gsvnet.models.bisenet import BiSeNet

    model = build_model(spec_of("bisenet"))
    model.net = BiSeNet(num_classes=len(CAMVID), auxiliary_heads=True)
    save_checkpoint(tmp_path / "m.safetensors", model)
    assert set(load_checkpoint(tmp_path / "m.safetensors").net.heads) == {"2"}


def test_the_hash_follows_weights_and_normalisation(saved):
    model, path = saved
    loaded = load_checkpoint(path)
    assert content_hash(loaded) == content_hash(model)
    assert len(content_hash(model)) == 64
    loaded.frame_normalise.channels = "rgb"
    other_order = content_hash(loaded)
    loaded.frame_normalise.channels = "bgr"
    loaded.propagation.flow.to_flow.bias.data[0] += 1e-6
    assert len({content_hash(model), other_order, content_hash(loaded)}) == 3


def test_missing_unexpected_and_misshapen_tensors_are_named(saved, tmp_path):
    tensors, about = safetensors.torch.load_file(saved[1]), {"gsvnet": metadata_of(saved[1])}
    tensors["propagation.flow.to_flow.bias"] = torch.zeros(3)
    del tensors["propagation.intra.classify.bias"]
    tensors["extra"] = torch.zeros(1)
    safetensors.torch.save_file(tensors, tmp_path / "odd.safetensors", metadata=about)
    with pytest.raises(ModelError) as refusal:
        load_checkpoint(tmp_path / "odd.safetensors")
    for words in ("missing propagation.intra.classify.bias", "unexpected extra", "flow.to_flow.bias is (3,)"):
        assert words in str(refusal.value)


def test_other_files_are_refused_in_one_line(tmp_path):
    torch.save({}, tmp_path / "pickle.pt")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    for name, words in {
        "pickle.pt": "gsvnet convert",
        "foreign.safetensors": "no gsvnet checkpoint of format 1",
        "cut.safetensors": "no safetensors file",
        "absent.safetensors": "cannot read checkpoint",
    }.items():
        with pytest.raises(ModelError, match=words) as refusal:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ('{"format_version": 1,', "its gsvnet metadata is no JSON"),
        ("[1]", "its gsvnet metadata is no JSON mapping"),
        ('{"format_version": 1}', "has no entry 'model'"),
        ('{"format_version": 1, "model": {"family": "bisenet"}}', "not a model description"),
        ('{"format_version": 1, "model": "bisenet"}', "not a model description"),
        ('{"format_version": 1, "model": {"classes": 11}}', "not a model description"),
    ],
)
def test_damaged_metadata_is_refused_by_the_name_of_its_file(about, words, tmp_path):
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, metadata={"gsvnet": about})
    for read in (load_checkpoint, read_notes):
        with pytest.raises(ModelError, match=words) as refusal:
            read(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_a_newer_format_is_refused(saved, tmp_path):
    about = {"gsvnet": json.dumps(json.loads(metadata_of(saved[1])) | {"format_version": 2})}
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", metadata=about)
    with pytest.raises(ModelError, match="it says 2"):
        load_checkpoint(tmp_path / "new.safetensors")


def test_an_unknown_model_lists_what_is_known(tmp_path):
    with pytest.raises(ModelError, match=r"unknown model 'deeplab'.*default.*package\.module:factory"):
        load_model("deeplab")


def test_a_family_is_no_trained_model():
    with pytest.raises(ModelError, match="family of networks"):
        load_model("gsvnet-swiftnet")


def test_absent_default_weights_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "DEFAULT_WEIGHTS", tmp_path / "default.safetensors")
    with pytest.raises(ModelError, match="--model"):
        load_model("default")


def write_factories(folder, monkeypatch) -> None:
    text = """
from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.models.segmenter import Normalise, PerFrame
from torch import nn
def make(classes=CAMVID):
    normalise = Normalise(mean=(0, 0, 0), std=(1, 1, 1))
    return PerFrame(nn.Conv2d(3, len(classes), 2, 2), classes=classes, normalise=normalise, align_corners=False)
def cityscapes():
    return make(CITYSCAPES)
def bare():
    return nn.Conv2d(3, 11, 1)
def lost():
    raise ValueError("weights not there")
"""
    (folder / "my_factories.py").write_text(text)
    monkeypatch.syspath_prepend(folder)


def test_a_factory_is_called_and_set_to_evaluation(tmp_path, monkeypatch):
    write_factories(tmp_path, monkeypatch)
    model = load_model("my_factories:make")
    assert isinstance(model, PerFrame)
    assert not model.training


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_factories:bare", "PerFrame"),
        ("my_factories:gone", "gone"),
        ("my_factories:lost", r"lost raised ValueError: weights not there \(my_factories.py, line 13\)"),
        ("no_such_module_x:make", "no_such_module_x"),
    ],
)
def test_a_factory_that_does_not_fit_says_what_to_do(name, words, tmp_path, monkeypatch):
    write_factories(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=words):
        load_model(name)


def test_a_keyframe_model_brings_its_network_normalisation_and_sizes(saved, tmp_path, monkeypatch):
    write_factories(tmp_path, monkeypatch)
    model = load_model(str(saved[1]), keyframe_model="my_factories:make")
    assert isinstance(model, GSVNet)
    assert isinstance(model.keyframe_network, nn.Conv2d)
    assert model.keyframe_normalise.channels == "rgb"
    assert model.frame_normalise.channels == "bgr"
    needs = model.needs(100, 200)
    assert (needs.keyframe_size, needs.frame_size) == ((100, 200), (24, 48))
    assert [batch.position.item() for batch in model.segment(tiny_chunk(model))] == [0, 1]


def test_a_keyframe_model_of_other_classes_is_refused(saved, tmp_path, monkeypatch):
    write_factories(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match="cityscapes"):
        load_model(str(saved[1]), keyframe_model="my_factories:cityscapes")


def test_a_keyframe_model_under_altered_resolution_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", build_model(spec_of("arseg-bisenetv1")))
    with pytest.raises(ModelError, match="needs a GSVNet to propagate it, not ARSeg"):
        load_model(str(tmp_path / "a.safetensors"), keyframe_model="default")


def test_a_network_of_no_known_family_is_not_saved(saved, tmp_path):
    model = PerFrame(nn.Conv2d(3, 11, 1), classes=CAMVID, normalise=saved[0].frame_normalise)
    with pytest.raises(ModelError, match="Conv2d"):
        save_checkpoint(tmp_path / "m.safetensors", model)
    assert list(tmp_path.iterdir()) == []


def test_a_spec_says_what_is_wrong_with_it():
    with pytest.raises(ModelError, match="unknown model family 'unet'"):
        replace(spec_of("bisenet"), family="unet")
    with pytest.raises(ModelError, match="not a model description"):
        ModelSpec.from_dict({"family": "bisenet"})


def metadata_of(path) -> str:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()["gsvnet"]
