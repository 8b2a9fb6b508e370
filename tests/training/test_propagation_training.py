import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.models.gsvnet import Propagation, with_gain
from gsvnet.training.clips import Clip, VideoClips
from gsvnet.training.propagation import PropagationTraining, clip_loss, draw_batch, train_propagation

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
    sources, generator = ((moving_bars(), 3.0), (moving_bars(8, 12), 1.0)), np.random.default_rng(0)
    batches = [draw_batch(sources, CONFIG, generator) for _ in range(200)]
    assert all(len({clip.frames.shape for clip in batch}) == 1 for batch in batches)
    assert np.mean([batch[0].frames.shape[-1] == 16 for batch in batches]) == pytest.approx(0.75, abs=0.08)
    assert {batch[0].frames.shape[0] for batch in batches} == {2, 3}


def test_the_loss_reaches_every_part_of_the_propagation(normalise):
    propagation = Propagation(num_classes=3)
    clips = [moving_bars().draw(3, np.random.default_rng(0)) for _ in range(2)]
    clip_loss(propagation, clips, normalise=normalise, class_weights=ONES, bf16=False).backward()
    for part in (propagation.flow, propagation.intra, propagation.guided_filter):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters()) > 0


def test_the_loss_is_that_of_one_step_after_the_other(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(3, np.random.default_rng(0))
    frames, state, losses = normalise(clip.frames), with_gain(clip.keyframe_logits[None]), []
    targets = clip.targets.repeat_interleave(2, 1).repeat_interleave(2, 2).long()
    for t in (1, 2):
        state = propagation(state, frames[t - 1 : t], frames[t : t + 1])
        logits = F.interpolate(state[:, :-1], scale_factor=2, mode="bilinear")
        losses.append(F.cross_entropy(logits, targets[t : t + 1]).item())
    loss = clip_loss(propagation, [clip], normalise=normalise, class_weights=ONES, bf16=False)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_ignored_targets_do_not_change_the_loss(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(3, np.random.default_rng(0))
    half = clip.targets.clone()
    half[:, :, 8:] = IGNORE

    def loss(targets):
        changed = Clip(keyframe_logits=clip.keyframe_logits, frames=clip.frames, targets=targets)
        return clip_loss(propagation, [changed], normalise=normalise, class_weights=ONES, bf16=False).item()

    none = torch.full_like(half, IGNORE)
    right = clip.targets.clone()
    right[:, :, :8] = IGNORE
    assert loss(none) == 0
    assert loss(clip.targets) == pytest.approx((loss(half) + loss(right)) / 2, rel=1e-4)


def test_the_keyframe_itself_is_not_scored(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(2, np.random.default_rng(0))
    targets = clip.targets.clone()
    targets[0] = IGNORE
    changed = Clip(keyframe_logits=clip.keyframe_logits, frames=clip.frames, targets=targets)
    losses = [clip_loss(propagation, [c], normalise=normalise, class_weights=ONES, bf16=False) for c in (clip, changed)]
    assert losses[0] == losses[1]
