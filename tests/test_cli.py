"""The command line as other programs know it: commands, flags, exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import fields

import pytest

import gsvnet
from gsvnet import cli
from gsvnet.cli import main
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.limits import LimitsConfig

RUN = (
    "--model --keyframe-interval --scale --references --ensemble --propagation "
    "--device --precision --batch-chunks --json"
)
MORE_FIGURES = "--consistency --consistency-mode --smooth --cost --calibration --plots"

# Names that scripts rely on: flags may be added, never renamed or removed without a word in the changelog.
FLAGS = {
    "label": """
        --out --model --keyframe-model --propagation --references --ensemble --motion
        --keyframe-interval --min-agreement --no-drift --uncertain --smooth --shard-seconds --shard-frames
        --num-actors --gpus-per-actor --cpus-per-actor --device --decoder --batch-chunks --precision --compile
        --mask-size --spool-dir --demo --no-ray
        --retry-failed --array-index --array-count --gpu-hour-price --max-attempts --max-failed-fraction --partial-ok
        --shard-timeout-s --drain-seconds --outage-timeout-s --actor-start-timeout-s --max-replacements
        --unsafe-commit --storage-options --video-options
    """,
    "adapt": """
        --keyframe-model --out --init --hold-out --frames-per-video --steps --batch-size --frames --interval --agreement
        --stride --learning-rate --flow-learning-rate --warmup-steps --weight-temper --distillation --flow-supervision
        --precision --device --threads --seed
    """,
    "status": "--json --storage-options",
    "show": "--frame --time --video --png --source --storage-options --video-options",
    "report": "--to --max-videos --thumbnails --source --overwrite --storage-options --video-options",
    "view": "--host --port --source --storage-options --video-options",
    "review": """
        --budget --min-gap-seconds --video --write --pages --overwrite --json --source --storage-options --video-options
    """,
    "verify": "--quick --sample --write --json --storage-options",
    "compact": "--to --target-mb --spool-dir --storage-options --to-options",
    "diff": "--every --video --worst --max-differing --frames --json --storage-options",
    "export": """
        --to --beside --frames-from --where --every --limit --video --images --image-prefix --ids --source --overwrite
        --storage-options --video-options
    """,
    "models": "",
    "convert": "--family --keyframe --propagation --out",
    "average": "--out",
    "evaluate camvid": f"--root --split --both-sides --motion-video {RUN} {MORE_FIGURES}",
    "evaluate cityscapes": f"--root --split {RUN} {MORE_FIGURES}",
    "evaluate drawn": f"--scenes --frames --speeds --size --folder {RUN} {MORE_FIGURES}",
    "evaluate drift": f"--every --plots --root --scenes --frames --speeds --size --folder {RUN}",
    "evaluate as-labeled": f"""
        --intervals --min-agreement --plots --root --scenes --frames --speeds --size --folder {RUN}
    """,
    "evaluate cost": f"--size --seconds {RUN}",
    "evaluate plot": "--out",
    "benchmark": "--json --only --video --model --size --rounds --threads --device",
}
FLAGS["plan"] = FLAGS["label"] + "--no-calibrate --json"
CHOICES = {
    "--device": "{auto,cpu,cuda}",
    "--precision": "{auto,fp32,bf16}",
}


def help_of(capsys, *command):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def flags_in(text):
    return set(re.findall(r"^\W*(?:-h, )?(--[a-z][a-z-]*)", text, re.MULTILINE))


def test_the_commands_are_listed(capsys):
    listed = re.findall(r"• (\w+)", help_of(capsys))
    assert listed == list(cli.COMMANDS)
    assert set(listed) >= {"label", "show", "models", "convert", "train", "evaluate", "benchmark"}


@pytest.mark.parametrize("command", FLAGS)
def test_flags_are_those_that_scripts_rely_on(command, capsys):
    text = help_of(capsys, *command.split())
    assert flags_in(text) - {"--help"} == set(FLAGS[command].split())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_says_what_a_command_is_for(command, capsys):
    assert cli.COMMANDS[command].__doc__.split(".")[0] in " ".join(help_of(capsys, command).split())


@pytest.mark.parametrize("flag", CHOICES)
def test_choices_are_shown(flag, capsys):
    assert f"{flag} {CHOICES[flag]}" in help_of(capsys, "label")


@pytest.mark.parametrize("part", ["keyframe", "propagation"])
def test_each_training_has_help(part, capsys):
    assert "--out" in flags_in(help_of(capsys, "train", part))


def test_every_option_of_a_job_is_documented(capsys):
    text = " ".join(re.sub("[│╭╰─╮╯]", " ", help_of(capsys, "label")).split())
    names = {field.name for field in (*fields(LabelConfig), *fields(LimitsConfig))} - {"videos", "limits"}
    for name in names:
        assert f"--{name.replace('_', '-')}" in text
    assert "VIDEO" in text.splitlines()[0]


def parse(monkeypatch, *arguments):
    """The configuration that `gsvnet label` would run with."""
    seen = []
    monkeypatch.setattr("gsvnet.labeling.job.label", lambda config, console: seen.append(config) or Report())
    assert main(["label", *arguments]) == 0
    return seen[0]


class Report:
    exit_code = 0


def test_defaults_are_those_of_the_issue(monkeypatch):
    config = parse(monkeypatch, "a.mp4", "--out", "o")
    assert config == LabelConfig(videos=("a.mp4",), out="o")
    assert (config.model, config.keyframe_interval, config.shard_seconds) == ("default", 5, 60.0)
    assert (config.num_actors, config.gpus_per_actor, config.device) == (None, None, "auto")
    assert (config.precision, config.mask_size) == ("auto", "full")


@pytest.mark.parametrize(
    "order",
    [
        ["a.mp4", "b.mp4", "--out", "o", "--num-actors", "2"],
        ["--out", "o", "--num-actors", "2", "a.mp4", "b.mp4"],
        ["--out=o", "a.mp4", "b.mp4", "--num-actors=2"],
    ],
    ids=str,
)
def test_videos_and_flags_come_in_any_order(monkeypatch, order):
    config = parse(monkeypatch, *order)
    assert (config.videos, config.out, config.num_actors) == (("a.mp4", "b.mp4"), "o", 2)


def test_every_flag_reaches_the_job(monkeypatch):
    text = (
        "a.mp4 --out o --model m --keyframe-model k --keyframe-interval 3 --shard-seconds 7.5 --shard-frames 9 "
        "--num-actors 2 --gpus-per-actor 0.5 --cpus-per-actor 3 --device cuda --batch-chunks 4 --precision bf16 "
        "--mask-size 36x48 --spool-dir s --no-ray --max-attempts 5 --shard-timeout-s 60 --unsafe-commit "
        "--storage-options anon true --video-options key k secret s"
    )
    assert parse(monkeypatch, *text.split()) == LabelConfig(
        videos=("a.mp4",),
        out="o",
        model="m",
        keyframe_model="k",
        keyframe_interval=3,
        shard_seconds=7.5,
        shard_frames=9,
        num_actors=2,
        gpus_per_actor=0.5,
        cpus_per_actor=3,
        device="cuda",
        batch_chunks=4,
        precision="bf16",
        mask_size="36x48",
        spool_dir="s",
        no_ray=True,
        limits=LimitsConfig(max_attempts=5, shard_timeout_s=60.0),
        unsafe_commit=True,
        storage_options={"anon": "true"},
        video_options={"key": "k", "secret": "s"},
    )


@pytest.mark.parametrize(
    "arguments",
    [["label", "a.mp4", "--out", "o", "--bogus"], ["label", "a.mp4", "--out", "o", "--device", "tpu"], []],
    ids=str,
)
def test_arguments_that_cannot_be_parsed_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelled_command_is_told_from_its_arguments(capsys):
    assert main(["lable", "a.mp4"]) == 2
    said = "gsvnet: no command 'lable' (did you mean label?); gsvnet --help lists them\n"
    assert capsys.readouterr().err == said
    assert main(["fly"]) == 2
    assert capsys.readouterr().err == "gsvnet: no command 'fly'; gsvnet --help lists them\n"


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gsvnet {gsvnet.__version__}\n"


def test_a_command_that_keeps_nothing_does_not_say_that_it_goes_on(monkeypatch, capsys):
    def interrupt(config, console):
        raise KeyboardInterrupt

    monkeypatch.setattr("gsvnet.viewing.commands.report", interrupt)
    assert main(["report", "out"]) == 1
    assert capsys.readouterr().err == "gsvnet: interrupted\n"


def test_a_picture_is_called_png(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("mine")
    assert main(["show", "out", "--png", str(tmp_path / "mine.py")]) == 2
    assert "name a .png file" in capsys.readouterr().err
    assert (tmp_path / "mine.py").read_text() == "mine"


def test_an_output_is_needed(capsys):
    assert main(["label", "a.mp4"]) == 2
    assert capsys.readouterr().err == "gsvnet: no output; give --out FOLDER or --out URI\n"


def test_interrupting_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(config, console):
        raise KeyboardInterrupt

    monkeypatch.setattr("gsvnet.labeling.job.label", interrupt)
    assert main(["label", "a.mp4", "--out", "o"]) == 1
    assert capsys.readouterr().err == "gsvnet: interrupted; the same command goes on where it stopped\n"


def test_a_signal_to_end_says_how_to_go_on_too(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("gsvnet.labeling.job.label", lambda config, console: signal.raise_signal(signal.SIGTERM))
    assert main(["label", "a.mp4", "--out", "o"]) == 1
    assert capsys.readouterr().err == "gsvnet: interrupted; the same command goes on where it stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_goes_away_is_no_error_to_talk_about():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gsvnet.cli", "label", "--help"]
    with os.fdopen(writer, "w") as out:
        run = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, "")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    def stumble(config, console):
        raise ZeroDivisionError

    monkeypatch.setattr("gsvnet.labeling.job.label", stumble)
    with pytest.raises(ZeroDivisionError):
        main(["label", "a.mp4", "--out", "o"])


def test_models_names_the_families(capsys):
    from gsvnet.models.spec import FAMILIES

    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert f"families: {', '.join(FAMILIES)}" in printed
    assert {"swiftnet", "bisenet", "gsvnet-swiftnet", "gsvnet-bisenet"} <= set(FAMILIES)
    assert "package.module:factory" in printed


# --- show ---


@pytest.fixture
def labeled(label_config):
    import gsvnet

    return gsvnet.label(label_config()).out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--frame", "99"], 1, "has no labels of frame"),
        (["--frame", "-1"], 1, "has no labels of frame"),
        (["--time", "-1"], 1, "has no labels at -1.0 s"),
        (["--frame", "1", "--time", "1"], 2, "--frame and --time both choose the frame"),
        (["--video", "other"], 2, "no video with labels is called 'other'"),
        (["--source", "moved.mp4"], 1, "moved.mp4: nothing there"),
        (["--png", "no/such/folder.png"], 2, "cannot write no/such/folder.png: "),
    ],
    ids=str,
)
def test_showing_what_is_not_there_is_one_line(labeled, capsys, tmp_path, monkeypatch, arguments, code, complaint):
    monkeypatch.chdir(tmp_path)
    assert main(["show", labeled, *arguments]) == code
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_showing_a_folder_without_labels_is_one_line(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 1
    assert "it has no _job.json" in capsys.readouterr().err


def test_show_names_its_picture_after_video_and_frame(labeled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", labeled]) == 0
    [png] = tmp_path.glob("*.png")
    assert re.fullmatch(r"drive-[0-9a-f]{12}-000000\.png", png.name)
    assert "frame 0 at 0.000 s, keyframe; " in capsys.readouterr().out


def test_show_finds_a_frame_by_its_time(labeled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", labeled, "--time", "0.5"]) == 0
    assert "frame 7 at 0.467 s" in capsys.readouterr().out
