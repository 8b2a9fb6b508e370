import importlib
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

import gsvnet
from gsvnet.classes import CITYSCAPES
from gsvnet.cli import main
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.agreement import Agreement, measure_agreement
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.footage import open_footage
from gsvnet.models.checkpoints import keyframe_hash, load_checkpoint, load_model, read_notes
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import SizeRule
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.training import adapt_start
from gsvnet.training.adapt import adapt
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.adapt_material import cut_videos
from gsvnet.training.adapt_report import AdaptReport, show_report
from gsvnet.training.adapt_start import start_model
from gsvnet.training.notes import describe_command
from gsvnet.training.propagation import train_propagation
from gsvnet.training.record import TrainingRecord

FACTORIES = """
import torch
from torch import nn
from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.models.segmenter import Normalise, PerFrame, SizeRule

def make(classes=CAMVID, align_corners=True, seed=0):
    generator = torch.random.get_rng_state()
    torch.manual_seed(seed)
    net = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, len(classes), 1)).eval()
    torch.random.set_rng_state(generator)
    normalise = Normalise(mean=(0.4,) * 3, std=(0.2,) * 3)
    rule = SizeRule(rows=48, keyframe_scale=0.75)
    return PerFrame(net, classes=classes, normalise=normalise, size_rule=rule, align_corners=align_corners)

def other():
    return make(seed=1)
def cityscapes():
    return make(CITYSCAPES)
"""


@pytest.fixture(autouse=True)
def factories(tmp_path, monkeypatch):
    """Models that a user may bring, named off_the_shelf:NAME."""
    (tmp_path / "off_the_shelf.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "off_the_shelf", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Pictures have their own tests, and take longer than such trainings."""
    monkeypatch.setattr(TrainingRecord, "look", lambda self, done, network: None)
    monkeypatch.setattr(TrainingRecord, "_draw_curves", lambda self: None)


@pytest.fixture
def config(drive, tmp_path):
    """config(**changes): a moment's training for off_the_shelf:make on the drawn drive of 60 frames."""
    usual = {
        "videos": (str(drive),),
        "keyframe_model": "off_the_shelf:make",
        "init": "random",
        "out": tmp_path / "w.safetensors",
        "steps": 2,
        "batch_size": 2,
        "frames": 3,
        "interval": 3,
        "warmup_steps": 1,
        "precision": "fp32",
        "threads": 1,
        "device": "cpu",
    }
    return lambda **changes: AdaptConfig(**usual | changes)


# --- the whole ---


def test_adapting_a_known_network_writes_one_checkpoint_with_both_networks(config, tiny_model):
    result = adapt(config(keyframe_model=str(tiny_model), init=None))
    model, keyframe = load_model(str(config().out)), load_checkpoint(tiny_model)
    assert isinstance(model, GSVNet)
    assert keyframe_hash(model) == keyframe_hash(keyframe)
    assert model.needs(360, 480) == keyframe.needs(360, 480)
    changed = [n for n, t in keyframe.state_dict().items() if not torch.equal(model.state_dict()[n], t)]
    assert changed
    assert all(name.startswith("propagation.") for name in changed)
    assert result.label_options("w.safetensors").startswith("--model w.safetensors --keyframe-interval ")


def test_a_network_from_outside_is_named_by_its_hash_and_brought_again_for_labeling(config, drive):
    result = adapt(config())
    out = str(config().out)
    assert "--keyframe-model off_the_shelf:make" in result.label_options(out)
    model = load_model(out, keyframe_model="off_the_shelf:make")
    assert (model.align_corners, model.size_rule.strides) == (True, (8, 4))
    assert model.needs(72, 96).keyframe_size == (36, 48)
    assert read_notes(out)[1]["keyframe"]["sha256"] == keyframe_hash(model)
    for bring in (None, "off_the_shelf:other"):
        with pytest.raises(ModelError, match=r"sha256|trained for"):
            load_model(out, keyframe_model=bring)
    border = round(60 * 0.8)
    again = measure_agreement(model, open_footage(str(drive)), first_frame=border, stop_frame=60, interval=3)
    assert again.pixels == pytest.approx(result.adapted.pixels, abs=0.2)  # weights are stored in half precision


def test_labeling_finds_the_adapted_propagation_and_the_network_that_was_brought(config, label_config):
    adapt(config())
    job = label_config(model=str(config().out), keyframe_model="off_the_shelf:make", keyframe_interval=3)
    labels = gsvnet.open_labels(gsvnet.label(job).out)
    distances = labels.frames.to_table(columns=["keyframe_distance"])["keyframe_distance"].to_pylist()
    assert distances == [0, 1, 2] * 20


def test_the_report_lies_beside_the_checkpoint_and_in_its_notes(config, drive):
    adapt(config(agreement=1.0))
    report = json.loads(config().out.with_suffix(".json").read_text())
    assert report["videos"] == [drive.name]
    assert report["num_frames"] == 12 - 2
    for who in ("hold", "start", "adapted"):
        assert report[who]["miou"][0] == report[who]["pixels"][0] == 100.0
        assert len(report[who]["miou"]) == 3
    assert report["recommended"]["miou"]["keyframe_interval"] == 3
    assert report["recommended"]["miou"]["keyframe_runs_saved"] == pytest.approx(66.7)
    _, notes = read_notes(config().out)
    assert notes["agreement"].items() <= report.items()
    assert str(drive.parent) not in json.dumps(notes)


def test_a_rerun_only_reports_again_and_another_command_is_refused(config):
    adapt(config())
    weights = load_checkpoint(config().out).state_dict()
    log = config().out.with_suffix(".training") / "log.jsonl"
    before = log.read_text()
    assert len(adapt(config(interval=4)).adapted.pixels) == 4
    assert log.read_text() == before
    again = load_checkpoint(config().out).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
    with pytest.raises(ConfigError, match="other --hold-out"):
        adapt(config(hold_out=0.3))


def test_a_retrained_keyframe_network_of_the_same_name_is_noticed(config, tmp_path):
    adapt(config())
    (tmp_path / "off_the_shelf.py").write_text(FACTORIES.replace("seed=0", "seed=7"))
    sys.modules.pop("off_the_shelf")
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="training for another keyframe network"):
        adapt(config())


def test_a_killed_adaptation_goes_on_and_ends_the_same(config, tmp_path, monkeypatch):
    adapt(config(steps=3, out=tmp_path / "a.safetensors"))
    train = train_propagation

    def kill(*arguments, **options):
        def stop(step, propagation):
            raise KeyboardInterrupt

        return train(*arguments, **options | {"save_every": 2, "on_save": stop})

    monkeypatch.setattr("gsvnet.training.propagation_run.train_propagation", kill)
    with pytest.raises(KeyboardInterrupt):
        adapt(config(steps=3, out=tmp_path / "b.safetensors"))
    assert not (tmp_path / "b.safetensors").exists()
    monkeypatch.setattr("gsvnet.training.propagation_run.train_propagation", train)
    adapt(config(steps=3, out=tmp_path / "b.safetensors"))
    a, b = (load_checkpoint(tmp_path / f"{name}.safetensors").state_dict() for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_brings_propagation_nearer_to_the_keyframe_network(config):
    result = adapt(config(steps=40, frames=4, learning_rate=5e-3))
    assert result.adapted.pixels[1] > result.start.pixels[1] + 5
    assert result.adapted.pixels[2] > result.start.pixels[2] + 5


def confusion(share_equal: float) -> ConfusionMatrix:
    matrix, truth = ConfusionMatrix(len(CITYSCAPES)), np.zeros(100, np.uint8)
    labels = np.where(np.arange(100) < 100 * share_equal, 0, 1).astype(np.uint8)
    matrix.update(truth, labels)
    return matrix


@pytest.mark.parametrize(("adapted", "held", "notes"), [(0.8, 0.9, 2), (0.9, 0.8, 0)])
def test_the_report_says_so_where_holding_would_be_better(adapted, held, notes):
    agreement = Agreement(
        classes=CITYSCAPES,
        num_frames=1,
        propagated=(confusion(1.0), confusion(adapted)),
        held=(confusion(1.0), confusion(held)),
    )
    console = Console(record=True, file=io.StringIO(), width=80)
    show_report(AdaptReport(videos=("a.mp4",), start=agreement, adapted=agreement, wished=99.0), console)
    printed = console.export_text()
    assert printed.count("agree less than holding") == notes
    assert printed.count("no keyframe interval keeps it") == 2


# --- what it starts from ---


def test_a_model_with_a_propagation_starts_from_its_own(config, tiny_model):
    model, words = start_model(config(keyframe_model=str(tiny_model), init=None))
    own = load_checkpoint(tiny_model).propagation.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.propagation.state_dict().items())
    assert words == "from trained weights for camvid (11 classes)"


def test_a_network_alone_starts_from_the_default_model(config, monkeypatch, tiny_model):
    monkeypatch.setattr(adapt_start, "DEFAULT_WEIGHTS", tiny_model)
    model, _ = start_model(config(init=None))
    default = load_checkpoint(tiny_model)
    assert torch.equal(model.propagation.flow.to_flow.weight, default.propagation.flow.to_flow.weight)
    assert torch.equal(model.frame_normalise.mean, default.frame_normalise.mean)
    assert model.size_rule == SizeRule(rows=48, keyframe_scale=0.75, strides=(8, 4))


def test_with_other_classes_the_parts_that_fit_are_taken(config, monkeypatch, tiny_model):
    monkeypatch.setattr(adapt_start, "DEFAULT_WEIGHTS", tiny_model)
    model, words = start_model(config(keyframe_model="off_the_shelf:cityscapes", init=None))
    default = load_checkpoint(tiny_model)
    assert torch.equal(model.propagation.flow.to_flow.weight, default.propagation.flow.to_flow.weight)
    assert model.propagation.intra.classify.weight.shape[0] == len(CITYSCAPES)
    assert "depend on the number of classes are random" in words


def test_random_weights_follow_from_the_seed(config):
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        weights.append(start_model(config())[0].propagation.flow.to_flow.weight)
    assert torch.equal(*weights)


def test_without_installed_weights_it_starts_at_random(config, monkeypatch, tmp_path):
    monkeypatch.setattr(adapt_start, "DEFAULT_WEIGHTS", tmp_path / "absent.safetensors")
    assert start_model(config(init=None))[1] == "from random weights"


def test_the_stride_can_be_chosen(config):
    model, _ = start_model(config(stride=2))
    assert model.needs(48, 64).frame_size == (24, 32)


# --- what it is trained on ---


def test_the_end_of_every_video_is_held_out(config):
    [material] = cut_videos(config().videos, config(), print)
    assert (material.training, material.held_out) == ([(0, 48)], [(48, 60)])
    [material] = cut_videos(config().videos, config(hold_out=0.5, frames_per_video=20), print)
    assert (material.training, material.held_out) == ([(0, 20)], [(30, 50)])


def test_a_video_that_cannot_be_used_is_left_out_and_named(config, tmp_path, drive):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines = []
    materials = cut_videos((str(tmp_path / "broken.mp4"), str(drive)), config(), lines.append)
    assert [material.name for material in materials] == ["drive.mp4"]
    assert "broken.mp4" in lines[0]


def test_a_short_video_is_trained_on_without_a_report(config, tmp_path, drive):
    short = write_video(tmp_path / "short.mp4", config=SceneConfig(height=32, width=48), num_frames=8)
    lines = []
    materials = cut_videos((str(short), str(drive)), config(), lines.append)
    assert [bool(material.held_out) for material in materials] == [False, True]
    assert lines == ["short.mp4: its end is too short for a report at keyframe interval 3"]
    with pytest.raises(ConfigError, match=r"no video leaves 3 frames.*larger --hold-out than 0\.2"):
        cut_videos((str(short),), config(), lines.append)
    with pytest.raises(ConfigError, match="no video has the 7 frames of a clip"):
        cut_videos((str(short),), config(frames=7, hold_out=0.5), lines.append)


# --- the command line ---


def test_the_command_prints_table_recommendation_and_how_to_label(drive, tmp_path, capsys):
    options = "--keyframe-model off_the_shelf:make --init random --steps 1 --batch-size 1 --frames 2 --interval 2"
    words = f"adapt {drive} {options} --threads 1 --device cpu --precision fp32".split()
    assert main([*words, "--out", str(tmp_path / "w.safetensors")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "11 held-out frames of drive.mp4" in printed
    assert "distance ┃ hold ┃ start ┃ adapted ┃" in printed
    assert "90 % by mIoU" in printed
    assert "gsvnet label --model" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keyframe-model", "default"], "no input"),
        (["v.mp4", "--keyframe-model", "absent.safetensors"], "unknown model 'absent.safetensors'"),
        (["v.mp4", "--keyframe-model", "default", "--hold-out", "1.5"], "--hold-out 1.5: must lie between 0 and 1"),
        (["v.mp4", "--keyframe-model", "default", "--agreement", "0"], "--agreement 0.0: must lie between 0 and 100"),
        (["v.mp4", "--keyframe-model", "default", "--interval", "1"], "--interval 1: at least 2"),
        (["v.mp4", "--keyframe-model", "default", "--frames-per-video", "5"], "--frames-per-video 5: at least 12"),
        (["v.mp4", "--keyframe-model", "default", "--init", "absent.safetensors"], "absent.safetensors"),
        (["nowhere.mp4", "--keyframe-model", "off_the_shelf:make"], "no video has the 6 frames"),
    ],
)
def test_bad_arguments_are_one_line_before_anything_starts(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["adapt", *words, "--out", "x.safetensors"]) == 2
    assert message in capsys.readouterr().err
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


def test_the_noted_command_names_files_without_folders(config):
    words = describe_command(replace(config(), videos=("/data/a.mp4",), keyframe_model="/models/k.safetensors"))
    assert words.startswith("gsvnet adapt a.mp4 --keyframe-model k.safetensors --out w.safetensors --init random")
