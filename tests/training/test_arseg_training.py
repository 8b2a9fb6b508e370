import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gsvnet.errors import ConfigError
from gsvnet.training.arseg import ArsegLoss, ArsegTraining, label_pairs, score_pairs, train_arseg
from gsvnet.training.arseg_pairs import ArsegPairs
from gsvnet.training.losses import still_loss

ONES = torch.ones(3)
CONFIG = ArsegTraining(
    epochs=3, batch_size=2, learning_rate=0.02, fusion_learning_rate=0.05, warmup_steps=1, precision="fp32"
)


class Killed(Exception):
    pass


@pytest.fixture
def pairs(tiny_stills) -> ArsegPairs:
    """Four frames of 12 x 16 in the colours of their classes, with features of 12 x 16 to bring and to want."""
    generator = torch.Generator().manual_seed(0)
    return ArsegPairs(
        images=tiny_stills.images[..., ::2, ::2].contiguous(),
        targets=tiny_stills.labels,
        brought=torch.rand(4, 4, 12, 16, generator=generator).half(),
        wanted=torch.rand(4, 4, 12, 16, generator=generator).half(),
    )


@pytest.fixture
def train(tiny_arseg, pairs, tmp_path):
    def run(name="a", model=None, **changes):
        options = {key: changes.pop(key) for key in ("on_step", "on_save", "held_out", "save_every") if key in changes}
        return train_arseg(
            model or tiny_arseg(),
            pairs,
            class_weights=ONES,
            config=replace(CONFIG, **changes),
            folder=tmp_path / name,
            log_every=1,
            **options,
        )

    return run


def test_the_loss_is_that_of_the_fused_labels_and_that_of_the_fused_feature(tiny_arseg, pairs):
    model = tiny_arseg()
    label, feature = ArsegLoss(model.frame_network, model.fusion, model.normalise, ONES, bf16=False)(pairs)
    fused = model.fusion(pairs.brought.float(), model.frame_network.extract(model.normalise(pairs.images)))
    expected = still_loss(model.frame_network.classify(fused), pairs.targets.long(), ONES)
    assert label.item() == pytest.approx(expected.item(), rel=1e-5)
    assert feature.item() == pytest.approx(F.mse_loss(fused, pairs.wanted.float()).item(), rel=1e-5)


def test_without_fusion_the_loss_is_that_of_the_small_frame_alone(tiny_arseg, pairs):
    model = tiny_arseg()
    label, feature = ArsegLoss(model.frame_network, None, model.normalise, ONES, bf16=False)(pairs)
    logits = model.frame_network(model.normalise(pairs.images))
    assert label.item() == pytest.approx(still_loss(logits, pairs.targets.long(), ONES).item(), rel=1e-5)
    assert feature == 0


def test_only_the_fusion_and_the_frame_network_up_to_its_classifier_learn(train, tiny_arseg):
    before, after = tiny_arseg().state_dict(), train().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("keyframe_network.", "frame_network.last."))}
    assert changed == set(before) - frozen


def test_without_fusion_the_classifier_learns_and_the_fusion_does_not(train, tiny_arseg):
    before, after = tiny_arseg().state_dict(), train(fused=False).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("frame_network.")}


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("label_loss", {"feature_weight": 0.0}),
        ("label_loss", {"feature_weight": 0.0, "loss": "ohem"}),
        ("feature_loss", {"feature_weight": 100.0}),
    ],
)
def test_training_lowers_the_loss_that_it_is_told_to(train, part, changes):
    records = []
    train(on_step=records.append, epochs=20, learning_rate=0.1, **changes)
    first, last = (sum(record[part] for record in some) for some in (records[:4], records[-4:]))
    assert last < 0.8 * first


def test_the_weight_of_the_feature_counts(train):
    records = []
    train(on_step=records.append, epochs=1, feature_weight=3.0)
    assert records[0]["loss"] == pytest.approx(records[0]["label_loss"] + 3 * records[0]["feature_loss"], rel=1e-6)


def test_a_killed_and_resumed_run_ends_like_an_undisturbed_one(train):
    def stop(step, model):
        if step == 4:
            raise Killed

    undisturbed = train("a", save_every=2).state_dict()
    with pytest.raises(Killed):
        train("b", save_every=2, on_save=stop)
    resumed = train("b", save_every=2).state_dict()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_looking_at_the_network_does_not_change_its_training(train, pairs):
    plain = train("a").state_dict()
    scored = train("b", held_out=pairs, save_every=1).state_dict()
    assert all(torch.equal(plain[name], scored[name]) for name in plain)


def test_a_folder_of_another_configuration_is_refused_by_name(train):
    train(epochs=1)
    with pytest.raises(ConfigError, match=r"feature_weight 1\.0, not 2\.0"):
        train(epochs=1, feature_weight=2.0)


def test_less_pairs_than_a_batch_are_refused(train):
    with pytest.raises(ConfigError, match="4 pairs do not fill one batch of 8"):
        train(batch_size=8)


def test_the_score_of_a_network_that_is_right_is_one(tiny_arseg, pairs):
    model = tiny_arseg()
    labels = torch.from_numpy(label_pairs(model, pairs, fused=True))
    assert score_pairs(model, replace(pairs, targets=labels), fused=True)["held_out_miou"] == 1
    alone = torch.from_numpy(label_pairs(model, pairs, fused=False))
    assert score_pairs(model, replace(pairs, targets=alone), fused=True)["held_out_miou_unfused"] == 1


def test_labels_do_not_need_the_networks_of_training(tiny_arseg, pairs):
    model = tiny_arseg()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.fusion.parameters():
            weight.add_(3.0)
    assert (label_pairs(model, pairs, fused=False) == label_pairs(other, pairs, fused=False)).all()
    assert (label_pairs(model, pairs, fused=True) != label_pairs(other, pairs, fused=True)).any()
