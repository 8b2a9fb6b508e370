import json
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from gsvnet.errors import ConfigError
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import Normalise
from gsvnet.training.clips import VideoClips
from gsvnet.training.propagation import PropagationTraining, draw_batch, train_propagation

CONFIG = PropagationTraining(steps=7, batch_size=2, num_frames=3, warmup_steps=2, precision="fp32")
ONES = torch.ones(3)


class Killed(Exception):
    pass


def moving_bars(height: int = 12, width: int = 16) -> VideoClips:
    """Three coloured bars that shift by one pixel per frame."""
    bars = (torch.arange(width + 12) // 4 % 3).to(torch.uint8)
    targets = torch.stack([bars[i : i + width].expand(height, width) for i in range(12)])
    frames = torch.eye(3)[targets.long()].permute(0, 3, 1, 2)
    return VideoClips((frames * 200).to(torch.uint8), (frames * 5).half(), targets, strides=(1,))


@pytest.fixture
def train(normalise):
    def run(config, folder, sources=None, **options):
        torch.manual_seed(0)
        return train_propagation(
            Propagation(num_classes=3),
            sources or [(moving_bars(), 1.0)],
            normalise=normalise,
            class_weights=ONES,
            config=config,
            folder=folder,
            **{"log_every": 2, "save_every": 3} | options,
        )

    return run


@pytest.mark.parametrize("last", [2, 4, 6])
def test_a_killed_and_resumed_run_ends_like_an_undisturbed_one(train, tmp_path, last):
    def kill(record):
        if record["step"] == last:
            raise Killed

    undisturbed = train(CONFIG, tmp_path / "a").state_dict()
    with pytest.raises(Killed):
        train(CONFIG, tmp_path / "b", on_step=kill)
    resumed = train(CONFIG, tmp_path / "b").state_dict()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in "ab"]
    assert [(r["step"], r["loss"]) for r in logs[0]] == [(r["step"], r["loss"]) for r in logs[1]]


def test_a_folder_of_another_configuration_is_refused(train, tmp_path):
    train(replace(CONFIG, steps=1), tmp_path)
    with pytest.raises(ConfigError, match="batch_size 2, not 3"):
        train(replace(CONFIG, steps=1, batch_size=3), tmp_path)


def test_propagation_learns_what_moves(train, tmp_path):
    config = replace(CONFIG, steps=60, batch_size=4, learning_rate=0.01, warmup_steps=5, precision="bf16")
    losses = []
    train(config, tmp_path, on_step=lambda record: losses.append(record["loss"]), log_every=10, save_every=1000)
    assert losses[-1] < 0.5 * losses[0]


def test_sources_of_several_grids_take_turns(train, tmp_path):
    propagation = train(CONFIG, tmp_path, sources=((moving_bars(), 1.0), (moving_bars(8, 12), 1.0)))
    assert not propagation.training


def test_a_batch_has_one_source_which_is_drawn_by_its_share():
    sources = ((moving_bars(), 3.0), (moving_bars(8, 12), 1.0))
    batches = [draw_batch(sources, CONFIG, step) for step in range(200)]
    assert all(len({clip.frames.shape for clip in batch}) == 1 for batch in batches)
    assert np.mean([batch[0].frames.shape[-1] == 16 for batch in batches]) == pytest.approx(0.75, abs=0.08)
    assert {batch[0].frames.shape[0] for batch in batches} == {2, 3}


def train_bars(folder: Path) -> None:
    """A short training that saves often, for a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train_propagation(
        Propagation(num_classes=3),
        [(moving_bars(), 1.0)],
        normalise=Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        class_weights=ONES,
        config=replace(CONFIG, steps=60),
        folder=folder,
        log_every=1,
        save_every=4,
    )


@pytest.mark.slow
def test_a_run_killed_at_any_step_has_the_loss_curve_of_an_undisturbed_one(tmp_path):
    train_bars(tmp_path / "a")
    processes, log = get_context("spawn"), tmp_path / "b" / "log.jsonl"
    for steps in sorted(np.random.default_rng().integers(1, 59, 2)):
        process = processes.Process(target=train_bars, args=(tmp_path / "b",))
        process.start()
        while not log.exists() or len(log.read_text().splitlines()) < steps:
            assert process.is_alive()
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    train_bars(tmp_path / "b")
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in "ab"]
    assert [(r["step"], r["loss"]) for r in logs[0]] == [(r["step"], r["loss"]) for r in logs[1]]
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True)["propagation"] for name in "ab"]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
