"""TDNet's training: who labels what, what it costs, what learns, and that a killed run goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.training.footage_runs import Run
from gsvnet.training.losses import distillation_loss, still_loss
from gsvnet.training.tdnet import TdnetTraining, _parameter_groups, label_runs, score_runs, train_tdnet
from gsvnet.training.tdnet_loss import TdnetLoss, build_auxiliary_heads, choose_rows, label_both, look, take_frames
from gsvnet.training.tdnet_runs import RunBatch, RunRecipe, draw_runs
from gsvnet.training.teacher import Teacher
from tests.tiny_tdnet import build_tdnet, cut_batch

CONFIG = TdnetTraining(steps=4, batch_size=3, warmup_steps=1, precision="fp32", learning_rate=0.01)
RECIPE = RunRecipe(num_frames=3, crop=(24, 32))
ONES = torch.ones(len(CAMVID))


class Noise:
    """Runs of noise and random labels."""

    def draw(self, num_frames, generator, *, kept=None):
        count = num_frames if kept is None else len(kept)
        images = torch.from_numpy(generator.integers(0, 256, (count, 3, 24, 32), dtype="uint8"))
        return Run(images=images, targets=torch.from_numpy(generator.integers(0, 11, (count, 24, 32), dtype="uint8")))


class OneRun(Noise):
    """The same run again and again."""

    def draw(self, num_frames, generator, *, kept=None):
        return super().draw(num_frames, np.random.default_rng(0), kept=kept)


SOURCES, ONE_RUN = [(Noise(), 1.0)], [(OneRun(), 1.0)]


class Killed(Exception):
    pass


@pytest.fixture
def train(tmp_path):
    def run(name="a", sources=SOURCES, **changes):
        names = ("on_step", "on_save", "held_out", "save_every")
        options = {key: changes.pop(key) for key in names if key in changes}
        return train_tdnet(
            build_tdnet(),
            sources,
            recipe=RECIPE,
            class_weights=ONES,
            config=replace(CONFIG, **changes),
            folder=tmp_path / name,
            log_every=1,
            **options,
        )

    return run


@pytest.fixture
def runs() -> RunBatch:
    return draw_runs(SOURCES, RECIPE, 0, range(3))


def loss_of(runs, **options):
    torch.manual_seed(0)
    model = build_tdnet()
    return TdnetLoss(model, build_auxiliary_heads(model).eval(), ONES, bf16=False, **options)(runs)


def test_every_sub_network_ends_as_many_runs_and_sees_one_frame_of_each():
    order = torch.arange(6)[:, None] * 10 + torch.arange(3)  # run b's frame j is 10 b + j
    seen = [take_frames(order, turn).tolist() for turn in range(3)]
    assert seen == [[2, 11, 20, 32, 41, 50], [0, 12, 21, 30, 42, 51], [1, 10, 22, 31, 40, 52]]
    ending = [order[choose_rows(turn, 3, every_frame=False), -1].tolist() for turn in range(3)]
    assert ending == [[2, 32], [12, 42], [22, 52]]


@torch.no_grad()
def test_a_run_is_labeled_as_the_network_labels_a_video(runs):
    model = build_tdnet()
    full, alone = label_both(model, look(model, runs.images), 1, slice(1, 2))
    batch = cut_batch(runs.images[1], 2, 3, before=2, first_index=2)  # frame 4, of sub-network 1
    torch.testing.assert_close(full, next(model.segment(batch)).logits, rtol=1e-4, atol=1e-4)
    single = build_tdnet("none")
    torch.testing.assert_close(alone, next(single.segment(batch)).logits, rtol=1e-4, atol=1e-4)


def test_the_loss_has_four_parts(runs):
    teacher = Teacher(nn.Conv2d(3, 11, 3, 2, 1), build_tdnet().normalise)
    parts = loss_of(runs, teacher=teacher, alone_distillation=0.25)
    torch.manual_seed(0)
    model, truth = build_tdnet(), runs.targets[:, -1].long()
    heads, seen = build_auxiliary_heads(model).eval(), look(model, runs.images)
    full, alone = (torch.cat(x) for x in zip(*(label_both(model, seen, t, slice(t, None, 3)) for t in range(3))))
    middle = torch.cat([heads[turn](seen[turn].middle[turn : turn + 1]) for turn in range(3)])
    soft = teacher(runs.images[:, -1].float())
    divergence = sum(
        share * distillation_loss(logits, soft, align_corners=True) for logits, share in ((full, 1.0), (alone, 0.25))
    )
    labels = [still_loss(logits, truth, ONES, align_corners=True) for logits in (full, alone, middle)]
    torch.testing.assert_close(parts, torch.stack([*labels, divergence]), rtol=1e-4, atol=1e-5)


def test_without_a_teacher_nothing_diverges(runs):
    assert loss_of(runs)[3] == 0


def test_every_frame_of_a_run_can_be_labeled_from_all_others(runs):
    model = build_tdnet()
    seen = look(model, runs.images)
    full = [label_both(model, seen, turn, slice(None))[0] for turn in range(3)]
    truth = torch.cat([take_frames(runs.targets, turn) for turn in range(3)]).long()
    expected = still_loss(torch.cat(full), truth, ONES, align_corners=True)
    assert loss_of(runs, every_frame=True)[0].item() == pytest.approx(expected.item(), rel=1e-4)


class Grouped(nn.Module):
    """A network that says of each group of its channels, and of the whole, that all is of one class."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(9.0))

    def forward(self, image):
        return self.segment_with_groups(image, 2)[0]

    def segment_with_groups(self, image, num_groups):
        logits = [torch.zeros(len(image), 11, 2, 2) for _ in range(num_groups + 1)]
        for label, x in enumerate(logits):
            x[:, label] = self.scale
        return logits[-1], logits[:-1]


@pytest.mark.parametrize(("count", "group"), [(2, 1), (4, 1), (3, 2)])
def test_a_teacher_that_tells_groups_apart_teaches_each_sub_network_its_own(count, group):
    teacher = Teacher(Grouped(), build_tdnet().normalise)
    whole, own = teacher.with_group(torch.zeros(1, 3, 8, 8), 1, count)
    assert (whole.argmax(1).unique().item(), own.argmax(1).unique().item()) == ((2 if count == 3 else count), group)


def test_one_step_changes_everything_that_can_matter(train):
    before, after = build_tdnet().state_dict(), train(steps=1).state_dict()
    same = [name for name in before if torch.equal(before[name], after[name])]
    useless = [f"sub_networks.{t}.{name}" for t in range(3) for name in ("value.bias", "hops.0.bias", "hops.1.bias")]
    useless += [f"sub_networks.{t}.{name}.bias" for t in range(3) for name in ("query.0", "key.0", "key.3")]
    assert set(same) <= set(useless)  # constants that a norm, or the softmax, takes away again


@pytest.mark.parametrize("every_frame", [False, True])
def test_a_killed_and_resumed_run_ends_like_an_undisturbed_one(train, every_frame):
    def stop(step, model):
        if step == 2:
            raise Killed

    undisturbed = train("a", save_every=2, every_frame=every_frame).state_dict()
    with pytest.raises(Killed):
        train("b", save_every=2, every_frame=every_frame, on_save=stop)
    resumed = train("b", save_every=2, every_frame=every_frame).state_dict()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_looking_at_the_network_does_not_change_its_training(train, runs):
    plain = train("a").state_dict()
    scored = train("b", held_out=runs, save_every=1).state_dict()
    assert all(torch.equal(plain[name], scored[name]) for name in plain)


def test_the_parts_of_the_loss_count_as_told(train):
    records = []
    train(on_step=records.append, steps=1, alone_weight=3.0, auxiliary_weight=0.5)
    (record,) = records
    expected = record["gathered_loss"] + 3 * record["alone_loss"] + 0.5 * record["auxiliary_loss"]
    assert record["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["cross-entropy", pytest.param("ohem", marks=pytest.mark.slow)])
def test_training_lowers_the_loss(train, loss):
    records = []
    train(
        on_step=records.append, sources=ONE_RUN, steps=25, learning_rate=0.03, gathering_learning_rate=0.03, loss=loss
    )
    assert records[-1]["gathered_loss"] < 0.97 * records[0]["gathered_loss"]


def test_a_batch_that_is_no_multiple_of_the_sub_networks_is_refused(train):
    with pytest.raises(ConfigError, match="batch size 4: must be a multiple of 3"):
        train(batch_size=4)


def test_maps_of_norms_and_biases_do_not_decay(train):
    model = build_tdnet()
    groups = _parameter_groups(model, build_auxiliary_heads(model), CONFIG)
    decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    free = {name for name, p in model.named_parameters() if id(p) not in decaying}
    assert free == {name for name, p in model.named_parameters() if p.ndim == 1 or ".norm." in name}


def test_the_score_of_a_network_that_is_right_is_one(runs):
    model = build_tdnet()
    for name, labels in zip(("held_out_miou", "held_out_miou_alone"), label_runs(model, runs)):
        targets = torch.from_numpy(labels)[:, None].expand(-1, 3, -1, -1)
        assert score_runs(model, RunBatch(images=runs.images, targets=targets))[name] == 1


def test_what_is_drawn_follows_from_seed_step_and_place_alone():
    whole = draw_runs(SOURCES, RECIPE, 5, range(4))
    part = draw_runs(SOURCES, RECIPE, 5, [1, 3])
    assert torch.equal(whole.images[[1, 3]], part.images)
    assert not torch.equal(whole.images, draw_runs(SOURCES, RECIPE, 6, range(4)).images)
