from __future__ import annotations

import math

import pytest
import torch

from gsvnet.training.conv_lstm import ConvLSTM
from gsvnet.training.frame_relations import SequenceLoss, pair_loss, published_similarities, self_loss, similarities

SIZE = (3, 4)


def features(channels: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, channels, *SIZE, generator=torch.Generator().manual_seed(seed))


def lengths(seed: int = 9) -> torch.Tensor:
    """Positive, another one for each place."""
    return torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) + 0.1


def test_similarities_are_cosines_of_the_frames_places_to_the_neighbours():
    current, other = features(), features(seed=1)
    found = similarities(current, other)
    assert found.shape == (2, 12, 12)
    wanted = torch.cosine_similarity(current[1, :, 1, 2], other[1, :, 0, 3], dim=0)  # places 6 and 3
    assert found[1, 6, 3].item() == pytest.approx(wanted.item(), abs=1e-6)
    assert similarities(current * 0, other).abs().max() == 0


def test_the_published_divisor_has_the_two_places_swapped():
    current, other = features(), features(seed=1) * lengths()
    i, j = (1, 1, 2), (1, 0, 3)  # image, row, column: places 6 and 3

    def at(x, place):
        return x[place[0], :, place[1], place[2]]

    wanted = at(current, i) @ at(other, j) / (at(other, i).norm() * at(current, j).norm())
    assert published_similarities(current, other)[1, 6, 3].item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(published_similarities(current, current), similarities(current, current))


def test_the_lengths_of_features_do_not_matter_but_to_the_published_form():
    teacher = features(), features(seed=1)
    student = teacher[0] * lengths(), teacher[1] * lengths(3)
    assert pair_loss(student, teacher) == pytest.approx(0, abs=1e-12)
    assert pair_loss(student, teacher, published=True) > 0.1


def test_a_frame_alone_is_the_pair_of_it_and_itself_on_smaller_maps():
    student, teacher = features(7), features(4, seed=1)  # a student may have other channels
    small = [torch.nn.functional.avg_pool2d(x, 2) for x in (student, teacher)]
    assert small[0].shape[2:] == (1, 2)
    wanted = pair_loss((small[0], small[0]), (small[1], small[1]))
    assert self_loss(student, teacher) == wanted
    assert wanted > 0


def test_mixed_precision_does_not_touch_similarities():
    current, other = features(64), features(64, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = similarities(current, other)
    assert torch.equal(mixed, similarities(current, other))


def test_a_sequence_is_remembered_in_its_order():
    torch.manual_seed(0)
    loss, frames = SequenceLoss(pool=1), [features(seed=i) for i in range(3)]
    assert loss(frames, frames) == 0
    assert loss(frames, [frames[1], frames[0], frames[2]]) > 0


def test_the_student_learns_and_the_memory_does_not():
    torch.manual_seed(0)
    loss, student = SequenceLoss(pool=1), features().requires_grad_()
    loss([student, student], [features(seed=1), features(seed=2)]).backward()
    assert student.grad.abs().max() > 0
    assert [p.grad for p in loss.parameters()] == [None, None]


def test_each_step_keeps_some_of_the_cell_and_adds_the_candidate():
    network = ConvLSTM(in_channels=1, channels=1)
    torch.nn.init.zeros_(network.gates.weight)
    network.gates.weight.data[3, 0, 1, 1] = 1.0  # the candidate sees the map
    network.gates.bias.data = torch.tensor([0.5, 1.0, 2.0, 0.0])  # of input, forget, output, candidate
    enter, keep, show = (1 / (1 + math.exp(-bias)) for bias in (0.5, 1.0, 2.0))
    maps = [torch.full((1, 1, 2, 2), value) for value in (0.3, -0.7)]
    hidden, cell = network(maps)
    wanted = keep * enter * math.tanh(0.3) + enter * math.tanh(-0.7)
    assert cell.flatten().tolist() == pytest.approx([wanted] * 4)
    assert hidden.flatten().tolist() == pytest.approx([show * math.tanh(wanted)] * 4)
