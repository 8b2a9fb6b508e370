"""`gsvnet train tdnet` from the command line to the checkpoint, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.models import spec
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.checkpoints import load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.tdnet import TDNet
from gsvnet.models.transfer import with_references
from gsvnet.training import tdnet_run
from gsvnet.training.footage_runs import VideoRuns
from gsvnet.training.run_material import RunMaterial
from gsvnet.training.tdnet_config import TrainTdnetConfig
from gsvnet.training.tdnet_run import choose_recipe, label_sources
from gsvnet.training.tdnet_start import start_tdnet
from tests.tiny_tdnet import cut_batch, draw_video
from tests.training.test_tdnet_start import Network, Trunk

TINY = ["--steps", "2", "--batch-size", "4", "--warmup-steps", "1", "--crop", "48", "64"]
TINY += ["--precision", "fp32", "--threads", "1", "--device", "cpu"]


def save_network(path, normalise, net, classes=CAMVID):
    torch.manual_seed(0)
    save_checkpoint(path, PerFrame(net, classes=classes, normalise=normalise, align_corners=False))
    return path


@pytest.fixture
def tiny(monkeypatch):
    for networks in (spec.SPLIT_NETWORKS, spec.KEYFRAME_NETWORKS, spec._KINDS):
        monkeypatch.setitem(networks, "bisenetv1", Network)
    monkeypatch.setitem(spec.TRUNKS, "bisenetv1", Trunk)


@pytest.fixture
def words(tmp_path, normalise, camvid_folder, tiny, monkeypatch):
    path = save_network(tmp_path / "k.safetensors", normalise, Network(num_classes=11))
    for name in ("_HELD_OUT_RUNS", "_MEASURED_RUNS", "_MEASURED_IMAGES"):
        monkeypatch.setattr(tdnet_run, name, 4)
    return ["train", "tdnet", "--keyframe", str(path), "--camvid", str(camvid_folder), *TINY]


@pytest.mark.slow
def test_the_checkpoint_labels_with_and_without_what_others_saw(words, tmp_path, media):
    out = tmp_path / "td.safetensors"
    video = media.write_clip(tmp_path / "drive.mp4", num_frames=8, size=(64, 96))
    words = [*words, "--unlabelled", str(video), "--hold-out", "0.5", "--teacher", str(tmp_path / "k.safetensors")]
    assert main([*words, "--out", str(out)]) == 0
    model, (_, notes) = load_checkpoint(out), read_notes(out)
    assert isinstance(model, TDNet)
    assert not any("auxiliary" in name for name in model.state_dict())
    batch = cut_batch(draw_video(4), 3, 4, before=3)
    with torch.no_grad():
        both = [next(with_references(model, kind).segment(batch)).logits for kind in ("before", "none")]
    assert not torch.equal(*both)
    assert notes["data"] == [
        "CamVid train (2 images in motion), 1 of them held out",
        "drive.mp4 (8 frames, without labels)",
    ]
    assert str(tmp_path) not in str(notes)
    line = json.loads((tmp_path / "td.training" / "log.jsonl").read_text().splitlines()[-1])
    assert line["distillation_loss"] > 0
    assert {name for name in line if name.startswith("held_out")} == {"held_out_miou", "held_out_miou_alone"}
    assert (tmp_path / "td.training" / "validation.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "--batch-size 6: must be a multiple of --sub-networks 4"),
        ({"sub_networks": 1}, "--sub-networks 1: at least 2"),
        ({"gap": 0}, "--gap 0: at least 1"),
        ({"teacher": Path("t.safetensors"), "distillation": 0.0}, "--teacher: teaches nothing"),
        ({"crop": (16, 64)}, "--crop 16 64: at least 32"),
        ({"camvid": None}, "nothing to train on"),
        ({"synthetic_clips": 1, "synthetic_frames": 6}, "--synthetic-frames 6: at least 7"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(tmp_path, changes, message):
    config = TrainTdnetConfig(keyframe=tmp_path, out=tmp_path / "x.safetensors", camvid=tmp_path)
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "80", "64"], "--crop 80 64: the frames have 64 rows, 96 columns"),
        (["--sub-networks", "2"], "does not start with 2 sub-networks from bisenetv1"),
        (["--teacher", "t.safetensors"], "its classes are cityscapes"),
    ],
)
def test_what_does_not_fit_is_refused(words, normalise, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "t.safetensors", normalise, Network(num_classes=19), CITYSCAPES)
    assert main([*words, *options, "--out", "td.safetensors"]) == 2
    assert message in capsys.readouterr().err


def test_a_network_without_a_trunk_is_refused(camvid_folder, normalise, tmp_path, capsys):
    path = save_network(tmp_path / "b.safetensors", normalise, BiSeNet(num_classes=11))
    words = ["train", "tdnet", "--keyframe", str(path), "--camvid", str(camvid_folder), *TINY]
    assert main([*words, "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "from bisenet;" in capsys.readouterr().err


def test_videos_are_labeled_at_the_scale_of_the_network_that_labels_them(tiny, normalise, tmp_path):
    rule, size = SizeRule(rows=24, keyframe_scale=2.0), (24, 32)
    image = PerFrame(Network(num_classes=11), classes=CAMVID, normalise=normalise, size_rule=rule, align_corners=False)
    save_checkpoint(tmp_path / "k.safetensors", image.eval())
    frames = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    material = RunMaterial(sources=((VideoRuns(frames, None, size=size), 1.0),), held_out=None, size=size, data=[])
    config = TrainTdnetConfig(
        keyframe=tmp_path / "k.safetensors", out=tmp_path / "x.safetensors", unlabelled=("v.mp4",), precision="fp32"
    )
    model = start_tdnet(image, num_sub_networks=4, size=size)
    ((labelled, _),) = label_sources(config, model, material, lambda words: None)
    with torch.no_grad():
        logits = image.net(normalise(F.interpolate(frames.float(), (48, 64), mode="bilinear")))
    assert isinstance(labelled, VideoRuns)
    assert torch.equal(labelled.targets, F.interpolate(logits, size, mode="bilinear").argmax(1).byte())


def test_every_option_reaches_the_loop(tmp_path):
    options = {
        "steps": 3,
        "batch_size": 4,
        "learning_rate": 0.1,
        "gathering_learning_rate": 0.2,
        "weight_decay": 0.3,
        "warmup_steps": 7,
        "loss": "ohem",
        "every_frame": True,
        "alone_weight": 0.6,
        "auxiliary_weight": 0.7,
        "distillation": 0.8,
        "alone_distillation": 0.9,
        "optimiser": "sgd",
        "precision": "fp32",
        "seed": 5,
    }
    config = TrainTdnetConfig(keyframe=tmp_path, out=tmp_path / "x.safetensors", camvid=tmp_path, **options)
    recipe = choose_recipe(config)
    assert {name: getattr(recipe, name) for name in options} == options
