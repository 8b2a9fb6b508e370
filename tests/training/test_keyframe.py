from dataclasses import replace

import pytest
import torch

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.training.keyframe import KeyframeTraining, still_loss, train_keyframe

CONFIG = KeyframeTraining(
    epochs=4, batch_size=2, crop=(16, 24), warmup_steps=2, learning_rate=0.02, precision="fp32", threads=1
)


class Killed(Exception):
    pass


@pytest.fixture
def train(tiny_network, tiny_stills, normalise):
    def run(config, folder, on_epoch=lambda record: None):
        return train_keyframe(
            tiny_network(3),
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
    undisturbed = train(CONFIG, tmp_path / "a").state_dict()
    with pytest.raises(Killed):
        train(CONFIG, tmp_path / "b", kill_after("epoch", 2))
    resumed = train(CONFIG, tmp_path / "b").state_dict()
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


def test_ignored_pixels_neither_count_nor_pull():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0])
    targets = torch.randint(0, 3, (1, 4, 4))
    targets[:, :2] = IGNORE
    still_loss(logits, targets, weights).backward()
    expected = torch.nn.functional.cross_entropy(logits[:, :, 2:], targets[:, 2:], weight=weights)
    assert still_loss(logits, targets, weights).item() == pytest.approx(expected.item(), rel=1e-5)
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().min() > 0


def test_a_batch_without_any_labelled_pixel_costs_nothing():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = still_loss(logits, torch.full((1, 4, 4), IGNORE), torch.ones(3))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0
