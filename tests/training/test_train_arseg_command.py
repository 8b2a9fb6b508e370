import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.models.arseg import ARSeg
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.checkpoints import load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.segmenter import ChunkBatch, PerFrame
from gsvnet.training import arseg_run
from gsvnet.training.arseg import train_arseg
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.arseg_run import choose_pair_recipe, choose_recipe
from gsvnet.training.notes import claim_folder, find_folder

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = ["--pairs", "4", "--epochs", "1", "--batch-size", "2", "--keyframe-interval", "3", "--warmup-steps", "1"]
TINY += ["--pairs-per-run", "2"]
TINY += ["--precision", "fp32", "--threads", "1", "--device", "cpu"]


def save_image_network(path, normalise, net, classes=CAMVID):
    torch.manual_seed(0)
    save_checkpoint(path, PerFrame(net, classes=classes, normalise=normalise, align_corners=False))
    return path


@pytest.fixture
def keyframe(tmp_path, normalise, tiny_family):
    return save_image_network(tmp_path / "k.safetensors", normalise, tiny_family(num_classes=11))


@pytest.fixture
def words(keyframe, camvid_folder):
    return ["train", "arseg", "--keyframe", str(keyframe), "--camvid", str(camvid_folder), *TINY]


def test_the_checkpoint_holds_both_networks_and_labels(words, keyframe, tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    assert main([*words, "--out", str(out), "--scale", "0.5", "--references", "nearest"]) == 0
    model = load_checkpoint(out)
    assert isinstance(model, ARSeg)
    assert (model.scale, model.references, model.sampling) == (0.5, "nearest", "exact")
    start = load_checkpoint(keyframe).net.state_dict()
    assert all(torch.equal(model.keyframe_network.state_dict()[name], start[name]) for name in start)
    assert torch.equal(model.frame_network.last.weight, start["last.weight"])
    assert not torch.equal(model.frame_network.first[0].weight, start["first.0.weight"])
    assert label_two_frames(model).shape == (1, 11, 32, 48)
    before = out.read_bytes()
    capsys.readouterr()
    assert main([*words, "--out", str(out), "--scale", "0.5", "--references", "nearest"]) == 0
    assert "loss" not in capsys.readouterr().out
    assert out.read_bytes() == before


class Killed(BaseException):
    pass


def test_a_killed_command_goes_on_and_ends_like_an_undisturbed_one(words, tmp_path, monkeypatch):
    def train(*args, on_save, kill_at=None, **options):
        def save(step, model):
            if step == kill_at:
                raise Killed
            on_save(step, model)

        return train_arseg(*args, on_save=save, save_every=1, **options)

    monkeypatch.setattr(arseg_run, "draw_pair_labels", lambda *args, **options: None)  # would take most of the time

    def run(name, **changes):
        monkeypatch.setattr(arseg_run, "train_arseg", partial(train, **changes))
        assert main([*words, "--out", str(tmp_path / f"{name}.safetensors")]) == 0
        losses = (tmp_path / f"{name}.training" / "log.jsonl").read_text().splitlines()
        return load_checkpoint(tmp_path / f"{name}.safetensors").state_dict(), json.loads(losses[-1])["loss"]

    undisturbed, loss = run("a")
    with pytest.raises(Killed):
        run("b", kill_at=1)
    resumed, loss_again = run("b")
    assert loss == loss_again
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def label_two_frames(model):
    """Logits of the second frame of a chunk of 64 x 96 where nothing is known of motion."""
    chunk = ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([2]),
        keyframes=torch.zeros(2, 3, 64, 96, dtype=torch.uint8),
        frames=torch.zeros(1, 2, 3, 32, 48, dtype=torch.uint8),
        valid=torch.ones(1, 2, dtype=torch.bool),
        next_valid=torch.tensor([False]),
        motion=torch.zeros(1, 2, 2, 8, 12),
        motion_valid=torch.zeros(1, 2, 8, 12, dtype=torch.bool),
        next_motion=torch.zeros(1, 2, 2, 8, 12),
        next_motion_valid=torch.zeros(1, 2, 8, 12, dtype=torch.bool),
    )
    with torch.no_grad():
        return next(batch.logits for batch in model.segment(chunk) if 1 in batch.position.tolist())


def test_without_fusion_an_image_network_of_small_frames_comes_out(words, tmp_path):
    out = tmp_path / "lr.safetensors"
    assert main([*words, "--out", str(out), "--without-fusion"]) == 0
    model = load_checkpoint(out)
    assert isinstance(model, PerFrame)
    assert model.needs(64, 96).keyframe_size == (32, 48)
    (line,) = (tmp_path / "lr.training" / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["feature_loss"] == 0


def test_the_notes_say_how_it_was_made_without_folders(words, tmp_path, media, capsys):
    out = tmp_path / "a.safetensors"
    video = media.write_clip(tmp_path / "drive.mp4", num_frames=5, size=(48, 64))
    assert main([*words, "--out", str(out), "--unlabelled", str(video), "--hold-out", "0.5"]) == 0
    assert "warning: --keyframe k.safetensors does not say what it was trained on" in capsys.readouterr().out
    _, notes = read_notes(out)
    assert str(tmp_path) not in str(notes)
    assert notes["command"].startswith("gsvnet train arseg --keyframe k.safetensors --out a.safetensors")
    assert notes["data"] == [
        "CamVid train (2 images in motion), 1 of them held out",
        "drive.mp4 (5 frames, without labels)",
    ]
    assert len(notes["keyframe"]["sha256"]) == 64
    line = json.loads((tmp_path / "a.training" / "log.jsonl").read_text().splitlines()[-1])
    assert 0 <= line["held_out_miou"] <= 1
    assert 0 <= line["held_out_miou_unfused"] <= 1


def test_another_command_in_the_same_folder_is_refused(tmp_path):
    config = TrainArsegConfig(keyframe=tmp_path / "k", out=tmp_path / "a.safetensors", camvid=tmp_path)
    claim_folder(tmp_path / "a.training", config)
    (tmp_path / "a.training" / "state.pt").touch()
    assert find_folder(config) == tmp_path / "a.training"
    with pytest.raises(ConfigError, match="other --keyframe-interval"):
        find_folder(replace(config, keyframe_interval=4))


def test_a_network_whose_feature_cannot_be_taken_out_is_refused(camvid_folder, normalise, tmp_path, capsys):
    path = save_image_network(tmp_path / "b.safetensors", normalise, BiSeNet(num_classes=11))
    words = ["train", "arseg", "--keyframe", str(path), "--camvid", str(camvid_folder), *TINY]
    assert main([*words, "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "holds bisenet; AR-Seg is built of bisenetv1" in capsys.readouterr().err


def test_a_network_of_other_classes_than_the_labels_is_refused(camvid_folder, normalise, tmp_path, capsys):
    path = save_image_network(tmp_path / "c.safetensors", normalise, BiSeNetV1(num_classes=19), CITYSCAPES)
    words = ["train", "arseg", "--keyframe", str(path), "--camvid", str(camvid_folder), *TINY]
    assert main([*words, "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "its classes are cityscapes (19)" in capsys.readouterr().err


def test_a_video_that_is_shorter_than_the_interval_is_refused(keyframe, tmp_path, media, capsys):
    video = media.write_clip(tmp_path / "v.mp4", num_frames=2, size=(48, 64))
    words = ["train", "arseg", "--keyframe", str(keyframe), "--unlabelled", str(video), *TINY]
    assert main([*words, "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "v.mp4: 2 frames; --keyframe-interval 3 asks for more" in capsys.readouterr().err


def test_every_option_reaches_the_loop_or_the_pairs(tmp_path):
    loop = {
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 0.1,
        "fusion_learning_rate": 0.2,
        "weight_decay": 0.3,
        "warmup_steps": 7,
        "loss": "ohem",
        "feature_weight": 0.5,
        "optimiser": "sgd",
        "precision": "fp32",
        "seed": 5,
    }
    drawn = {"pairs": 40, "pairs_per_run": 2, "keyframe_interval": 6}
    config = TrainArsegConfig(
        keyframe=tmp_path, out=tmp_path / "x.safetensors", camvid=tmp_path, without_fusion=True, **loop, **drawn
    )
    recipe, pairs = choose_recipe(config), choose_pair_recipe(config, (3, 4))
    assert {name: getattr(recipe, name) for name in loop} == loop
    assert not recipe.fused
    assert (pairs.count, pairs.pairs_per_run, pairs.keyframe_interval, pairs.size) == (40, 2, 6, (3, 4))
    assert (pairs.fused, pairs.bf16, pairs.seed[0]) == (False, False, 5)


def test_pairs_that_no_machine_holds_are_refused_before_anything_is_drawn(words, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "a.safetensors"), "--pairs", "1000000000"]) == 2
    assert "--pairs 1000000000" in capsys.readouterr().err
    assert not (tmp_path / "a.training").exists()


@pytest.mark.slow
def test_torchrun_trains_with_two_processes(normalise, camvid_folder, tmp_path):
    keyframe = save_image_network(tmp_path / "k.safetensors", normalise, BiSeNetV1(num_classes=11))
    words = ["train", "arseg", "--keyframe", str(keyframe), "--camvid", str(camvid_folder), *TINY]
    out = tmp_path / "a.safetensors"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = subprocess.run(
        [
            *launch,
            "-m",
            "jobs.train",
            *words[1:],
            "--pairs",
            "8",
            "--batch-size",
            "4",
            "--hold-out",
            "0.5",
            "--out",
            str(out),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    assert said.stdout.count("wrote") == 1
    assert len((tmp_path / "a.training" / "log.jsonl").read_text().splitlines()) == 1
    assert isinstance(load_checkpoint(out), ARSeg)
