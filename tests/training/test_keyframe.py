from dataclasses import replace

import pytest
import torch
from torch import nn

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.training.keyframe import KeyframeTraining, train_keyframe
from gsvnet.training.stills import Stills
from gsvnet.training.teacher import Teacher

CONFIG = KeyframeTraining(
    epochs=4, batch_size=2, crop=(16, 24), warmup_steps=2, learning_rate=0.02, precision="fp32", threads=1
)


class Killed(Exception):
    pass


@pytest.fixture
def train(tiny_network, tiny_stills, normalise):
    def run(config, folder, on_epoch=lambda record: None, *, dropout=0.0):
        return train_keyframe(
            nn.Sequential(nn.Dropout(dropout), tiny_network(3)),
            tiny_stills,
            num_classes=3,
            normalise=normalise,
            config=config,
            folder=folder,
            on_epoch=on_epoch,
        )

    return run


@pytest.fixture
def kill_after():
    def make(key, last):
        def stop(record):
            if record[key] == last:
                raise Killed

        return stop

    return make


def test_a_network_overfits_four_stills(train, tiny_stills, normalise, tmp_path):
    config = replace(CONFIG, epochs=60, batch_size=4, crop=(24, 32), scales=(1.0, 1.0), ema_decay=0.9)
    net = train(config, tmp_path)
    with torch.no_grad():
        labels = net(normalise(tiny_stills.images)).argmax(1)
    truth = tiny_stills.labels[:, 1::2, 1::2]
    right = (labels == truth)[truth != IGNORE].float().mean()
    assert right > 0.97


def test_a_killed_and_resumed_run_ends_like_an_undisturbed_one(train, kill_after, tmp_path):
    undisturbed = train(CONFIG, tmp_path / "a", dropout=0.3).state_dict()
    with pytest.raises(Killed):
        train(CONFIG, tmp_path / "b", kill_after("epoch", 2), dropout=0.3)
    resumed = train(CONFIG, tmp_path / "b", dropout=0.3).state_dict()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    epochs = [line.split(",")[0] for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert epochs == [f'{{"epoch": {i}' for i in (1, 2, 3, 4)]


def test_a_finished_run_is_only_read_again(train, tmp_path):
    first, epochs = train(CONFIG, tmp_path).state_dict(), []
    again = train(CONFIG, tmp_path, epochs.append).state_dict()
    assert epochs == []
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_folder_of_another_configuration_is_refused_by_name(train, tmp_path):
    train(replace(CONFIG, epochs=1), tmp_path)
    with pytest.raises(ConfigError, match=r"learning_rate 0\.02, not 0\.5"):
        train(replace(CONFIG, epochs=1, learning_rate=0.5), tmp_path)


def test_less_stills_than_a_batch_are_refused(train, tmp_path):
    with pytest.raises(ConfigError, match="4 stills do not fill one batch of 8"):
        train(replace(CONFIG, batch_size=8), tmp_path)


class Expert(nn.Module):
    """Knows the classes of `tiny_stills` from their colours, normalised as in `normalise`."""

    def forward(self, pixels):
        return pixels * 10


def test_a_student_learns_from_its_teacher_what_nobody_labelled(tiny_network, tiny_stills, normalise, tmp_path):
    config = replace(CONFIG, epochs=60, batch_size=4, crop=(24, 32), scales=(1.0, 1.0), ema_decay=0.9)
    unlabelled = replace(tiny_stills, labels=torch.full_like(tiny_stills.labels, IGNORE))
    net = train_keyframe(
        tiny_network(3),
        unlabelled,
        num_classes=3,
        normalise=normalise,
        config=config,
        folder=tmp_path,
        teacher=Teacher(Expert(), normalise),
    )
    with torch.no_grad():
        labels = net(normalise(tiny_stills.images)).argmax(1)
    assert (labels == tiny_stills.images.argmax(1)[:, 1::2, 1::2]).float().mean() > 0.97


def test_unlabelled_stills_of_another_size_join_the_epoch(tiny_network, tiny_stills, normalise, tmp_path):
    other = Stills(images=torch.zeros(2, 3, 40, 48, dtype=torch.uint8), labels=torch.full((2, 40, 48), 255).byte())
    options = dict(num_classes=3, normalise=normalise, config=replace(CONFIG, epochs=1, batch_size=6), folder=tmp_path)
    with pytest.raises(ConfigError, match="without a teacher"):
        train_keyframe(tiny_network(3), tiny_stills, unlabelled=[other], **options)
    train_keyframe(tiny_network(3), tiny_stills, unlabelled=[other], teacher=Teacher(Expert(), normalise), **options)
    assert (tmp_path / "state.pt").exists()


def test_a_state_from_before_an_option_existed_is_still_read(train, tmp_path):
    train(replace(CONFIG, epochs=1), tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["config"]["distillation"]
    torch.save(state, tmp_path / "state.pt")
    epochs = []
    train(replace(CONFIG, epochs=1), tmp_path, epochs.append)
    assert epochs == []
