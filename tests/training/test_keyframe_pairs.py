"""Keyframe networks that learn consistency from pairs of frames beside labelled stills."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.models.checkpoints import read_notes
from gsvnet.training.frame_relations import pair_loss
from gsvnet.training.keyframe import KeyframeTraining, train_keyframe
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.losses import StillLoss, distillation_loss
from gsvnet.training.paired_loss import PairedLoss, SeenPairs
from gsvnet.training.pairs import FramePairs, MovingStills
from gsvnet.training.teacher import Teacher
from gsvnet.training.temporal_losses import consistency_loss, published_motion_loss

CONFIG = KeyframeTraining(
    epochs=4, batch_size=2, crop=(16, 24), warmup_steps=2, learning_rate=0.02, precision="fp32", threads=1
)
VIEWS = torch.linspace(-1, 1, 2 * 3 * 16 * 24).view(2, 3, 16, 24)
TARGETS = torch.arange(2 * 16 * 24).view(2, 16, 24) % 3


class Killed(Exception):
    pass


class Expert(nn.Module):
    """Knows the classes of `tiny_stills` from their colours, normalised as in `normalise`."""

    def forward(self, pixels):
        return pixels * 10


@pytest.fixture
def seen() -> SeenPairs:
    """One pair of random views, with a flow of a quarter pixel that is not known in one corner."""
    generator = torch.Generator().manual_seed(1)
    flow = torch.full((1, 2, 4, 6), 0.25)
    flow[:, :, 0, 0] = float("nan")
    return SeenPairs(pixels=torch.randn(2, 3, 16, 24, generator=generator), flow=flow)


@pytest.fixture
def paired(tiny_network):
    """A function that makes the loss of the same network in evaluation mode, where images do not depend on others."""

    def make(**options) -> PairedLoss:
        net = tiny_network(3).eval()
        stills = StillLoss(net, torch.ones(3), distillation=0.5, bf16=False)
        return PairedLoss(stills, **({"consistency": 0.0} | options))

    return make


@pytest.fixture
def train(tiny_network, tiny_stills, normalise):
    def run(config, folder, *, pairs=None, teacher=None, on_epoch=lambda record: None):
        return train_keyframe(
            nn.Sequential(nn.Dropout(0.3), tiny_network(3)),
            tiny_stills,
            num_classes=3,
            normalise=normalise,
            config=config,
            folder=folder,
            pairs=[(MovingStills(tiny_stills), 1.0)] if pairs is None else pairs,
            teacher=teacher,
            on_epoch=on_epoch,
        )

    return run


def test_pairs_that_count_nothing_leave_the_loss_of_the_stills(paired, seen):
    loss = paired()
    assert loss(VIEWS, TARGETS, None, seen)[0] == loss.stills(VIEWS, TARGETS)


def test_the_disagreement_of_pairs_adds_what_it_weighs(paired, seen):
    loss = paired(consistency=3.0)
    total, disagreement = loss(VIEWS, TARGETS, None, seen).tolist()
    wanted = consistency_loss(*loss.stills.net(seen.pixels).chunk(2), seen.flow, align_corners=False).item()
    assert disagreement == pytest.approx(wanted)
    assert disagreement > 0
    assert total == pytest.approx(loss.stills(VIEWS, TARGETS).item() + 3 * wanted)


def test_the_published_form_compares_logits_at_full_size(paired, seen):
    known = replace(seen, flow=torch.full((1, 2, 4, 6), 0.25))
    loss = paired(consistency=0.1, consistency_form="published")
    full = nn.functional.interpolate(loss.stills.net(seen.pixels), (16, 24), mode="bilinear")
    wanted = published_motion_loss(*full.chunk(2), *seen.pixels.chunk(2), torch.ones(1, 2, 16, 24))
    assert loss(VIEWS, TARGETS, None, known)[1].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_teacher_labels_both_frames_of_a_pair(paired, seen):
    teacher = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    loss = paired()
    total = loss(VIEWS, TARGETS, None, replace(seen, teacher=teacher))[0]
    wanted = loss.stills(VIEWS, TARGETS) + 0.5 * distillation_loss(loss.stills.net(seen.pixels), teacher)
    assert total.item() == pytest.approx(wanted.item())


def test_what_a_teacher_knows_of_frames_together_counts_by_its_weights(paired, seen):
    teacher = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    taught = replace(seen, teacher=teacher)
    loss = paired(pair_weight=2.0, sequence_weight=5.0)
    total, _, pair, sequence = loss(VIEWS, TARGETS, None, taught).tolist()
    assert loss.parts == ("consistency", "pair", "sequence")
    own, known = loss.stills.net(seen.pixels), nn.functional.avg_pool2d(teacher, 2)
    assert pair == pytest.approx(pair_loss(own.chunk(2), known.chunk(2), pool=2).item())
    assert sequence > 0
    without = paired()(VIEWS, TARGETS, None, taught)[0].item()
    assert total == pytest.approx(without + 2 * pair + 5 * sequence)


def test_the_network_sees_stills_and_both_frames_at_once(paired, seen):
    loss, sizes = paired(consistency=1.0), []
    loss.stills.net.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    loss(VIEWS, TARGETS, None, seen)
    assert sizes == [4]


def test_a_killed_and_resumed_run_ends_like_an_undisturbed_one(train, normalise, tmp_path):
    config = replace(CONFIG, consistency=1.0, pair_weight=1.0, sequence_weight=1.0, pairs_per_step=2)
    teacher = Teacher(Expert(), normalise)

    def stop(record):
        if record["epoch"] == 2:
            raise Killed

    undisturbed = train(config, tmp_path / "a", teacher=teacher).state_dict()
    with pytest.raises(Killed):
        train(config, tmp_path / "b", teacher=teacher, on_epoch=stop)
    resumed = train(config, tmp_path / "b", teacher=teacher).state_dict()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_the_log_says_how_far_frames_disagree_and_weighing_it_brings_them_together(train, tiny_stills, tmp_path):
    frames = torch.stack([tiny_stills.images[0], tiny_stills.images[0] // 3])  # the same place by day and at dusk
    pairs = [(FramePairs(frames, torch.tensor([[0, 1]]), torch.zeros(1, 2, 6, 8).half()), 1.0)]
    last = []
    for weight in (0.0, 3.0):
        folder = tmp_path / str(weight)
        train(replace(CONFIG, epochs=8, consistency=weight), folder, pairs=pairs)
        last.append(json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["consistency"])
    assert 0 < last[1] < 0.5 * last[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consistency": 1.0}, "need pairs of frames"),
        ({"pair_weight": 1.0}, "need pairs of frames"),
    ],
)
def test_weights_of_pairs_without_pairs_are_refused(train, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        train(replace(CONFIG, **options), tmp_path, pairs=[])


def test_what_a_teacher_knows_is_not_learned_without_one(train, tmp_path):
    with pytest.raises(ConfigError, match="there is none"):
        train(replace(CONFIG, sequence_weight=1.0), tmp_path)


def test_a_state_from_before_pairs_is_still_read(train, tmp_path):
    train(replace(CONFIG, epochs=1), tmp_path, pairs=[])
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for name in ("pairs_per_step", "consistency", "consistency_form", "pair_weight", "sequence_weight"):
        del state["config"][name]
    torch.save(state, tmp_path / "state.pt")
    epochs = []
    train(replace(CONFIG, epochs=1), tmp_path, pairs=[], on_epoch=epochs.append)
    assert epochs == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consistency": 0.5}, "--consistency 0.5: of which frames"),
        ({"pair_weight": 1.0, "sequence_weight": 2.0}, "--pair-weight 1.0, --sequence-weight 2.0: of which frames"),
        ({"moving_stills": True, "pair_weight": 1.0}, "--pair-weight 1.0: like whom"),
        ({"moving_stills": True}, "teach nothing here; give --consistency"),
        ({"moving_stills": True, "consistency": -1.0}, "--consistency -1.0: at least 0"),
        ({"flow_model": "m.safetensors"}, "is of --flow light, not of --flow dis"),
        ({"moving_stills": True, "consistency": 1.0, "frame_gap": 0}, "--frame-gap 0: at least 1"),
        ({"moving_stills": True, "consistency": 1.0, "consistency_form": "published"}, "needs flow everywhere"),
        ({"video": ("v.mp4",), "consistency": 1.0, "consistency_form": "published", "flow": "proxy"}, "has gaps"),
    ],
)
def test_options_that_do_not_go_together_are_named(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        TrainKeyframeConfig(out=tmp_path / "k.safetensors", camvid=tmp_path, **options)


@pytest.mark.slow
def test_a_checkpoint_says_what_its_consistency_was_learned_from(camvid_folder, tmp_path):
    out = tmp_path / "k.safetensors"
    words = ["train", "keyframe", "--camvid", str(camvid_folder), "--out", str(out), "--epochs", "1"]
    words += ["--batch-size", "2", "--precision", "fp32", "--threads", "1", "--device", "cpu", "--crop", "32x32"]
    assert main([*words, "--consistency", "0.5", "--moving-stills", "--pairs-per-step", "1"]) == 0
    _, notes = read_notes(out)
    assert notes["data"] == ["CamVid train (2 images)", "2 images in motion"]
    assert notes["recipe"]["consistency"] == 0.5
    assert "--consistency 0.5" in notes["command"]


def test_pairs_of_a_video_carry_its_flow_into_a_training(train, tmp_path):
    frames = torch.randint(0, 255, (3, 3, 24, 32), dtype=torch.uint8)
    pairs = FramePairs(frames, torch.tensor([[0, 1], [2, 1]]), torch.zeros(2, 2, 6, 8).half())
    records = []
    train(replace(CONFIG, epochs=1, consistency=1.0), tmp_path, pairs=[(pairs, 1.0)], on_epoch=records.append)
    assert records[0]["consistency"] > 0
