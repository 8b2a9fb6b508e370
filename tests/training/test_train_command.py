import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gsvnet.classes import CITYSCAPES
from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.models.checkpoints import keyframe_hash, load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.notes import check_keyframe, claim_folder, describe_command, find_folder
from gsvnet.training.propagation_config import TrainPropagationConfig

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = ["--batch-size", "2", "--precision", "fp32", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both networks, trained for a moment on drawn streets alone."""
    folder = tmp_path_factory.mktemp("trained")
    keyframe, propagation = str(folder / "k.safetensors"), str(folder / "p.safetensors")
    train_keyframe = ["train", "keyframe", "--synthetic-scenes", "2", "--out", keyframe, "--epochs", "1"]
    assert main([*train_keyframe, "--crop", "64x96", *TINY]) == 0
    train_propagation = ["train", "propagation", "--keyframe", keyframe, "--synthetic-clips", "1", "--steps", "2"]
    train_propagation += ["--synthetic-frames", "3", "--frames", "3", "--out", propagation]
    train_propagation += ["--distillation", "0.5", "--last-steps", "1"]
    assert main([*train_propagation, *TINY]) == 0
    return folder


def test_training_on_drawn_streets_writes_a_keyframe_checkpoint(trained):
    model = load_checkpoint(trained / "k.safetensors")
    assert isinstance(model, PerFrame)
    assert model.size_rule == SizeRule(rows=360, strides=(4,))
    assert not model.align_corners
    assert model.needs(720, 1280).keyframe_size == (360, 640)


def test_training_the_propagation_writes_both_networks(trained):
    model, keyframe = load_checkpoint(trained / "p.safetensors"), load_checkpoint(trained / "k.safetensors")
    assert isinstance(model, GSVNet)
    assert model.needs(360, 480).frame_size == (90, 120)
    for name, tensor in keyframe.net.state_dict().items():
        assert (model.keyframe_network.state_dict()[name] == tensor).all(), name


def test_a_checkpoint_says_how_it_was_made_without_folders(trained):
    for name in ("k", "p"):
        _, notes = read_notes(trained / f"{name}.safetensors")
        assert str(trained) not in str(notes)
        assert notes["command"].startswith("gsvnet train ")
        assert notes["recipe"]["batch_size"] == 2
        assert "drawn streets" in notes["summary"]
    assert notes["keyframe"]["sha256"] == keyframe_hash(load_checkpoint(trained / "p.safetensors"))
    assert "drawn streets (2 images)" in notes["keyframe"]["notes"]["data"]


def test_a_rerun_goes_on_and_another_command_is_refused(trained, capsys):
    again = ["train", "keyframe", "--synthetic-scenes", "2", "--out", str(trained / "k.safetensors"), "--epochs", "1"]
    before = (trained / "k.safetensors").read_bytes()
    assert main([*again, "--crop", "64x96", *TINY]) == 0
    assert "epoch" not in capsys.readouterr().out
    assert (trained / "k.safetensors").read_bytes() == before
    assert main([*again, "--crop", "64x64", *TINY]) == 2
    assert "other --crop; choose another --out" in capsys.readouterr().err


def test_a_folder_for_another_keyframe_network_is_refused(tmp_path):
    config = TrainPropagationConfig(
        keyframe=tmp_path / "k.safetensors", out=tmp_path / "p.safetensors", synthetic_clips=1
    )
    folder = find_folder(config)
    claim_folder(folder, config, keyframe_sha256="a" * 64)
    check_keyframe(folder, "b" * 64)  # nothing was trained yet
    (folder / "state.pt").touch()
    check_keyframe(folder, "a" * 64)
    with pytest.raises(
        ConfigError, match=r"training for another keyframe network \(sha256 aaaaaaaaaaaa\.\.\., now bbb"
    ):
        check_keyframe(folder, "b" * 64)


def test_a_folder_from_before_an_option_existed_is_still_known(tmp_path):
    config = TrainKeyframeConfig(out=tmp_path / "k.safetensors", synthetic_scenes=2)
    claim_folder(tmp_path / "k.training", config)
    (tmp_path / "k.training" / "state.pt").touch()
    command = tmp_path / "k.training" / "command.json"
    older = json.loads(command.read_text())
    del older["teacher"], older["distillation"], older["unlabelled"]
    command.write_text(json.dumps(older))
    assert find_folder(config) == tmp_path / "k.training"
    with pytest.raises(ConfigError, match="other --distillation"):
        find_folder(replace(config, distillation=2.0))


def test_camvid_and_drawn_streets_are_joined_at_the_size_of_camvid(camvid_folder, tmp_path, capsys):
    out = tmp_path / "k.safetensors"
    data = ["--camvid", str(camvid_folder), "--synthetic-scenes", "1"]
    assert main(["train", "keyframe", *data, "--out", str(out), "--epochs", "1", "--crop", "32x32", *TINY]) == 0
    assert "CamVid train (2 images), drawn streets (1 images)" in capsys.readouterr().out
    start = ["train", "keyframe", "--init", str(out), "--synthetic-scenes", "1", "--family", "bisenet"]
    assert main([*start, "--out", str(tmp_path / "b.safetensors")]) == 2
    assert "holds swiftnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["keyframe", "--camvid", "nowhere"], "nowhere"),
        (["keyframe"], "nothing to train on"),
        (["keyframe", "--camvid", "c", "--crop", "64"], "--crop 64"),
        (["keyframe", "--camvid", "c", "--epochs", "0"], "--epochs 0: at least 1"),
        (["keyframe", "--unlabelled", "v.mp4"], "Give --teacher"),
        (["keyframe", "--camvid", "c", "--teacher", "t.safetensors", "--distillation", "-1"], "--distillation -1"),
        (["propagation", "--keyframe", "k", "--camvid", "c", "--last-steps", "-1"], "--last-steps -1: at least 0"),
        (["keyframe", "--camvid", "c", "--learning-rate", "0"], "--learning-rate 0.0: must be positive"),
        (["propagation", "--keyframe", "k.safetensors"], "nothing to train on"),
        (["propagation", "--keyframe", "absent.safetensors", "--camvid", "c"], "absent.safetensors"),
        (["propagation", "--keyframe", "k.safetensors", "--synthetic-clips", "1", "--frames", "50"], "at least 50"),
    ],
)
def test_bad_arguments_are_named_before_anything_starts(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words, "--out", "x.safetensors"]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_pillow_the_extra_is_named(camvid_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert main(["train", "keyframe", "--camvid", str(camvid_folder), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "pip install 'gsvnet[" in capsys.readouterr().err


def test_the_noted_command_leaves_out_defaults_and_folders(tmp_path):
    keyframe = TrainKeyframeConfig(camvid=tmp_path / "camvid", out=tmp_path / "k.safetensors", scales=(0.5, 1.5))
    assert describe_command(keyframe) == ("gsvnet train keyframe --out k.safetensors --camvid camvid --scales 0.5 1.5")
    bare = replace(keyframe, scales=(0.6, 1.8), auxiliary_heads=False)
    assert describe_command(bare) == "gsvnet train keyframe --out k.safetensors --camvid camvid --no-auxiliary-heads"
    propagation = TrainPropagationConfig(
        keyframe=tmp_path / "k.safetensors",
        out=tmp_path / "p.safetensors",
        video=("/data/a b.mp4", "https://me:secret@x/c.mp4?key=1"),
        without_intra=True,
    )
    assert describe_command(propagation) == (
        "gsvnet train propagation --keyframe k.safetensors --out p.safetensors --video 'a b.mp4' c.mp4 --without-intra"
    )


def test_an_output_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        TrainKeyframeConfig(camvid=tmp_path, out=tmp_path / "x.pt")


def test_a_teacher_labels_what_nobody_labelled(trained, tmp_path, capsys):
    video = write_video(tmp_path / "drive.mp4", config=SceneConfig(height=48, width=64, seed=3), num_frames=5)
    words = ["train", "keyframe", "--unlabelled", str(video), "--unlabelled-step", "2", "--epochs", "1"]
    words += ["--teacher", str(trained / "p.safetensors"), "--crop", "32x32", "--out", str(tmp_path / "s.safetensors")]
    assert main([*words, *TINY]) == 0
    _, notes = read_notes(tmp_path / "s.safetensors")
    assert notes["data"] == ["drive.mp4 (3 images, without labels)"]
    assert "drawn streets" in notes["teacher"]["summary"]
    assert float(re.search(r"loss ([\d.]+)", capsys.readouterr().out)[1]) > 0


def test_a_teacher_of_other_classes_is_refused_by_name(tmp_path, capsys):
    other = ModelSpec(
        family="swiftnet",
        classes=CITYSCAPES,
        normalise=NormaliseSpec(mean=(0, 0, 0), std=(1, 1, 1)),
        size_rule=SizeRule(),
    )
    save_checkpoint(tmp_path / "city.safetensors", build_model(other))
    words = ["train", "keyframe", "--synthetic-scenes", "2", "--teacher", str(tmp_path / "city.safetensors")]
    assert main([*words, "--out", str(tmp_path / "k.safetensors"), *TINY]) == 2
    said = capsys.readouterr().err
    assert "city.safetensors: its classes are cityscapes (19); the student's are camvid (11)" in said


@pytest.mark.slow
def test_a_share_of_the_material_is_held_out_and_scored(tmp_path):
    keyframe, propagation = tmp_path / "k.safetensors", tmp_path / "p.safetensors"
    words = ["keyframe", "--synthetic-scenes", "4", "--hold-out", "0.5", "--epochs", "1", "--crop", "32x32"]
    assert main(["train", *words, "--out", str(keyframe), *TINY]) == 0
    words = ["propagation", "--keyframe", str(keyframe), "--synthetic-clips", "1", "--synthetic-frames", "4"]
    words += ["--frames", "2", "--steps", "1", "--hold-out", "0.5", "--out", str(propagation)]
    assert main(["train", *words, *TINY]) == 0
    for path in (keyframe, propagation):
        (line,) = (path.with_suffix(".training") / "log.jsonl").read_text().splitlines()
        assert 0 <= json.loads(line)["held_out_miou"] <= 1
        assert "held out" in read_notes(path)[1]["summary"]


@pytest.mark.slow
def test_torchrun_trains_with_two_processes(tmp_path):
    out = tmp_path / "k.safetensors"
    words = ["keyframe", "--synthetic-scenes", "4", "--epochs", "2", "--crop", "64x96", "--out", str(out), *TINY]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = subprocess.run(
        [*launch, "-m", "jobs.train", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=280
    )
    assert said.stdout.count("wrote") == 1
    assert len((tmp_path / "k.training" / "log.jsonl").read_text().splitlines()) == 2
    assert isinstance(load_checkpoint(out), PerFrame)
