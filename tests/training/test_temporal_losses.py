from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gsvnet.classes import CAMVID
from gsvnet.synthetic import SceneConfig, StreetScene
from gsvnet.training.temporal_losses import (
    consistency_loss,
    ends_inside,
    leads_back,
    looks_alike,
    published_motion_loss,
)

SIZE = (6, 8)
STILL = torch.zeros(1, 2, *SIZE)


def sure(labels: torch.Tensor, num_classes: int = 2) -> torch.Tensor:
    """Logits (1, C, h, w) of a network that is certain of labels (h, w)."""
    return 200.0 * F.one_hot(labels.long(), num_classes).movedim(-1, 0)[None]


def shift(dx: float, dy: float) -> torch.Tensor:
    return torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, *SIZE).clone()


def test_each_pixel_that_the_frames_disagree_on_costs_two():
    labels = torch.zeros(SIZE)
    other = labels.clone()
    other[:, :2] = 1  # a quarter
    assert consistency_loss(sure(labels), sure(labels), STILL) == 0
    assert consistency_loss(sure(labels), sure(other), STILL) == pytest.approx(0.5)


def test_what_moved_along_the_flow_costs_nothing():
    big = torch.randint(0, 2, (10, 12), generator=torch.Generator().manual_seed(0))
    current, neighbour = big[2:8, 3:11], big[1:7, :8]  # the neighbour shows everything 3 further right, 1 lower
    assert consistency_loss(sure(current), sure(neighbour), shift(3, 1)) == pytest.approx(0, abs=1e-6)
    assert consistency_loss(sure(current), sure(neighbour), shift(-3, -1)) > 0.3


def test_only_pixels_that_are_known_count():
    right = torch.arange(SIZE[1]).ge(4).expand(SIZE)
    frames = sure(torch.zeros(SIZE)), sure(right)  # the right half disagrees
    flow = STILL.clone()
    assert consistency_loss(*frames, flow, right[None]) == pytest.approx(2)
    assert consistency_loss(*frames, flow, ~right[None]) == 0
    flow[0, 1, :, 4:] = float("nan")
    assert consistency_loss(*frames, flow) == 0
    flow[0, :, :, 4:] = torch.tensor([0.0, 6.0]).view(2, 1, 1)  # below the picture
    assert consistency_loss(*frames, flow) == 0


@pytest.mark.parametrize("flow", [STILL * float("nan"), shift(100, 0)])
def test_where_nothing_is_known_the_loss_and_its_gradient_are_zero(flow):
    logits, neighbour = torch.randn(2, 1, 3, *SIZE).requires_grad_().unbind()
    logits.retain_grad()
    loss = consistency_loss(logits, neighbour, flow)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_a_pixel_that_is_not_known_does_not_pull():
    logits, neighbour = torch.randn(1, 3, *SIZE).requires_grad_(), torch.randn(1, 3, *SIZE)
    valid = torch.ones(1, *SIZE, dtype=torch.bool)
    valid[:, 2] = False
    consistency_loss(logits, neighbour, STILL, valid).backward()
    assert logits.grad[:, :, 2].abs().max() == 0
    assert logits.grad[:, :, 1].abs().min() > 0


def test_both_frames_learn():
    both = torch.randn(2, 1, 3, *SIZE).requires_grad_()
    consistency_loss(both[0], both[1], shift(0.5, 0)).backward()
    assert both.grad.abs().amax(dim=(1, 2, 3, 4)).min() > 0


def test_shrinking_all_logits_is_rewarded_on_raw_logits_and_not_here():
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, 2, 3, *SIZE, generator=generator).requires_grad_()
    flow = torch.randn(2, 2, *SIZE, generator=generator)
    images = torch.randn(2, 2, 3, *SIZE, generator=generator)

    def along_size(loss):
        (gradient,) = torch.autograd.grad(loss, both)
        return (gradient * both).sum().item()

    published = published_motion_loss(*both, *images, flow)
    assert along_size(published) == pytest.approx(2 * published.item(), rel=1e-4)
    ours = consistency_loss(*both, flow)
    assert ours.item() > 0.1
    assert along_size(ours) == pytest.approx(0, abs=1e-6)


def test_the_level_of_a_pixels_logits_does_not_matter():
    both = torch.randn(2, 1, 3, *SIZE)
    raised = both + torch.randn(2, 1, 1, *SIZE)
    assert consistency_loss(*raised, STILL).item() == pytest.approx(consistency_loss(*both, STILL).item(), rel=1e-5)


def test_logits_are_brought_to_the_grid_of_the_flow_in_their_corner_convention():
    coarse, flow = torch.randn(2, 1, 3, 3, 4), shift(1, 0)
    for corners in (True, False):
        fine = [F.interpolate(x, SIZE, mode="bilinear", align_corners=corners) for x in coarse]
        assert consistency_loss(*coarse, flow, align_corners=corners) == consistency_loss(*fine, flow)


def test_mixed_precision_does_not_touch_it():
    both, flow = torch.randn(2, 1, 3, *SIZE), torch.randn(1, 2, *SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = consistency_loss(*both, flow)
    assert mixed == consistency_loss(*both, flow)


def test_a_flow_ends_inside_up_to_the_centres_of_the_outermost_pixels():
    flow = shift(1, 0)
    assert ends_inside(flow)[0, 0].tolist() == [True] * 7 + [False]
    flow[0, 0, 0, :2] = torch.tensor([-0.01, float("nan")])
    assert ends_inside(flow)[0, 0].tolist() == [False, False] + [True] * 5 + [False]


def test_a_flow_is_believed_where_the_one_from_its_end_leads_back():
    flow, back = shift(2, 0), shift(-2, 0)
    back[..., 5:] = torch.tensor([2.0, 0.0]).view(2, 1, 1)  # what is there came from elsewhere
    assert leads_back(flow, back)[0, 3].tolist() == [True] * 3 + [False] * 5
    back[..., 5:] = float("nan")
    assert leads_back(flow, back)[0, 3].tolist() == [True] * 3 + [False] * 5


def test_a_flow_is_believed_where_the_neighbour_looks_alike():
    image = torch.arange(8.0).mul(30).expand(1, 3, *SIZE)
    moved = image - 60  # two to the right
    moved[..., 4] += 100
    assert looks_alike(image, moved, shift(2, 0))[0, 1].tolist() == [True] * 2 + [False] + [True] * 3 + [False] * 2
    assert not looks_alike(image, moved, STILL).any()
    assert looks_alike(image, image + 20, STILL).all()
    assert not looks_alike(image, image + 21, STILL).any()


@pytest.mark.slow  # drawing a street takes seconds
def test_true_labels_of_a_drawn_street_agree_along_its_true_flow():
    scene = StreetScene(SceneConfig(height=72, width=96, seed=3, speed_m_s=12))
    now, before = scene.frame(11), scene.frame(10)
    logits, past = (sure(torch.from_numpy(frame.labels), len(CAMVID)) for frame in (now, before))
    flow, valid = torch.from_numpy(now.flow)[None], torch.from_numpy(now.flow_valid)[None]
    along = consistency_loss(logits, past, flow, valid)
    assert along < 0.2 * consistency_loss(logits, past, torch.zeros_like(flow), valid)
    assert along < 0.5 * consistency_loss(logits, past, -flow, valid)
    assert along < consistency_loss(logits, past, flow)
