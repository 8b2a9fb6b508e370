import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.training import keyframe, keyframe_state
from gsvnet.training.keyframe import KeyframeTraining, train_keyframe
from gsvnet.training.state import append_log, cut_log

COMMAND = ["train", "keyframe", "--synthetic-scenes", "4", "--out", "k.safetensors", "--epochs", "4", "--crop", "64x96"]
COMMAND += ["--batch-size", "2", "--warmup-steps", "2", "--precision", "fp32", "--threads", "1", "--device", "cpu"]


def start(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-m", "gsvnet.cli", *COMMAND], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )


def read_losses(folder: Path) -> list[tuple[int, float]]:
    path = folder / "k.training" / "log.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(record["epoch"], record["loss"]) for record in records]


def kill_after(folder: Path, epochs: int, *, wait_s: float) -> None:
    """SIGKILL a run `wait_s` after it has logged so many epochs."""
    process = start(folder)
    while len(read_losses(folder)) < epochs:
        assert process.poll() is None, f"ended with {process.returncode} before it was killed"
        time.sleep(0.01)
    time.sleep(wait_s)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_killed_twice_ends_like_an_undisturbed_one(tmp_path):
    assert start(tmp_path / "undisturbed").wait() == 0
    kill_after(tmp_path / "killed", 1, wait_s=0)  # between the log's line and the state, or while that is written
    kill_after(tmp_path / "killed", 2, wait_s=0.5)  # in the middle of an epoch, a picture or a state
    assert not (tmp_path / "killed" / "k.safetensors").exists()
    assert start(tmp_path / "killed").wait() == 0
    assert [epoch for epoch, _ in read_losses(tmp_path / "killed")] == [1, 2, 3, 4]
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "undisturbed")
    wanted, found = (load_checkpoint(tmp_path / n / "k.safetensors").state_dict() for n in ("undisturbed", "killed"))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


class Killed(Exception):
    pass


@pytest.mark.parametrize(("module", "moment"), [(keyframe, "append_log"), (keyframe_state, "save_state")])
def test_a_kill_beside_logging_or_saving_loses_and_doubles_no_epoch(
    tiny_network, tiny_stills, normalise, tmp_path, monkeypatch, module, moment
):
    config = KeyframeTraining(epochs=3, batch_size=2, crop=(16, 24), warmup_steps=2, precision="fp32", threads=1)

    def train(folder):
        net = tiny_network(3)
        train_keyframe(net, tiny_stills, num_classes=3, normalise=normalise, config=config, folder=folder)
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [(record["epoch"], record["loss"]) for record in records]

    calls, real = [], getattr(module, moment)

    def die_the_second_time(*args):
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        real(*args)

    monkeypatch.setattr(module, moment, die_the_second_time)
    with pytest.raises(Killed):
        train(tmp_path / "killed")
    assert train(tmp_path / "killed") == train(tmp_path / "undisturbed")


def test_a_line_that_was_cut_short_is_dropped_with_those_beyond_the_state(tmp_path):
    for epoch in (1, 2, 3):
        append_log(tmp_path, {"epoch": epoch})
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"epoch": 4, "lo')
    cut_log(tmp_path, "epoch", 2)
    assert (tmp_path / "log.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
