import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsvnet.classes import IGNORE
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.propagation import Propagation, with_gain
from gsvnet.models.pspnet_up import PSPNet18Up
from gsvnet.training.clip_loss import ClipLoss, advance, flow_loss, resize_labels
from gsvnet.training.clips import Clip, VideoClips
from gsvnet.training.losses import (
    StillLoss,
    distillation_loss,
    label_loss,
    ohem_loss,
    presence_loss,
    still_loss,
)

ONES = torch.ones(3)


def moving_bars(height: int = 12, width: int = 16) -> VideoClips:
    """Three coloured bars that shift by one pixel per frame."""
    bars = (torch.arange(width + 12) // 4 % 3).to(torch.uint8)
    targets = torch.stack([bars[i : i + width].expand(height, width) for i in range(12)])
    frames = torch.eye(3)[targets.long()].permute(0, 3, 1, 2)
    return VideoClips((frames * 200).to(torch.uint8), (frames * 5).half(), targets, strides=(1,))


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


def test_the_loss_reaches_every_part_of_the_propagation(normalise):
    propagation = Propagation(num_classes=3)
    clips = [moving_bars().draw(3, np.random.default_rng(0)) for _ in range(2)]
    ClipLoss(propagation, normalise, ONES, bf16=False)(clips).backward()
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
    loss = ClipLoss(propagation, normalise, ONES, bf16=False)([clip])
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_ignored_targets_do_not_change_the_loss(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(3, np.random.default_rng(0))
    half = clip.targets.clone()
    half[:, :, 8:] = IGNORE

    def loss(targets):
        changed = Clip(keyframe_logits=clip.keyframe_logits, frames=clip.frames, targets=targets)
        return ClipLoss(propagation, normalise, ONES, bf16=False)([changed]).item()

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
    losses = [ClipLoss(propagation, normalise, ONES, bf16=False)([c]) for c in (clip, changed)]
    assert losses[0] == losses[1]


def test_the_divergence_is_the_mean_over_pixels_of_the_sum_over_classes():
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]])).T[None, :, None]  # (1, 2 classes, 1, 2 pixels)
    teacher = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]])).T[None, :, None]
    expected = (0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)) / 2
    assert distillation_loss(logits, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_the_divergence_does_not_depend_on_the_level_of_the_logits():
    logits, teacher = torch.randn(2, 5, 4, 6), torch.randn(2, 5, 4, 6)
    assert distillation_loss(logits + 3, teacher - 2).item() == pytest.approx(distillation_loss(logits, teacher).item())
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_unknown_pixels_of_a_teacher_neither_count_nor_pull():
    logits, teacher = torch.randn(1, 3, 4, 6, requires_grad=True), torch.randn(1, 3, 4, 6)
    partly = teacher.clone()
    partly[..., :2] = float("nan")
    loss = distillation_loss(logits, partly)
    loss.backward()
    assert loss.item() == pytest.approx(distillation_loss(logits[..., 2:], teacher[..., 2:]).item(), rel=1e-5)
    assert logits.grad[..., :2].abs().max() == 0
    assert distillation_loss(logits, torch.full_like(teacher, float("nan"))) == 0


def test_a_teacher_adds_its_weighed_divergence(tiny_network):
    net, pixels = tiny_network(3).eval(), torch.randn(2, 3, 8, 8)
    targets, teacher = torch.randint(0, 3, (2, 8, 8)), torch.randn(2, 3, 8, 8)
    loss_of = StillLoss(net, ONES, distillation=0.5, bf16=False)
    expected = still_loss(net(pixels), targets, ONES) + 0.5 * distillation_loss(net(pixels), teacher)
    assert loss_of(pixels, targets, teacher).item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss_of(pixels, targets).item() == pytest.approx(still_loss(net(pixels), targets, ONES).item(), rel=1e-5)


def test_bisenet_learns_through_its_auxiliary_heads_too():
    net = BiSeNet(num_classes=3, auxiliary_heads=True)
    loss = StillLoss(net, ONES, distillation=0, bf16=False)(torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64)))
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in net.heads.parameters())


def test_clips_are_distilled_on_the_grid(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(3, np.random.default_rng(0))
    frames = normalise(clip.frames)[None]
    states, _ = advance(propagation, with_gain(clip.keyframe_logits[None]), frames)
    softly = [distillation_loss(state[:, :-1], clip.teacher[None, t]).item() for t, state in enumerate(states, start=1)]
    plain, both = (ClipLoss(propagation, normalise, ONES, distillation=d, bf16=False)([clip]).item() for d in (0, 2))
    assert both == pytest.approx(plain + 2 * np.mean(softly), rel=1e-5)


def test_clips_without_a_teacher_are_learned_from_their_targets_alone(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = replace(moving_bars().draw(3, np.random.default_rng(0)), teacher=None)
    losses = [ClipLoss(propagation, normalise, ONES, distillation=d, bf16=False)([clip]).item() for d in (0, 2)]
    assert losses[0] == losses[1]


def test_of_a_long_clip_only_the_last_steps_are_learned_from(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(5, np.random.default_rng(0))
    states, _ = advance(propagation, with_gain(clip.keyframe_logits[None]), normalise(clip.frames)[None])
    targets = resize_labels(clip.targets, (24, 32)).long()
    expected = np.mean([still_loss(states[t - 1][:, :-1], targets[t, None], ONES).item() for t in (3, 4)])
    loss_of = ClipLoss(propagation, normalise, ONES, last_steps=2, bf16=False)
    assert loss_of([clip]).item() == pytest.approx(expected, rel=1e-5)
    assert not propagation.training


def test_steps_that_are_not_learned_from_leave_no_trace_in_the_batch_norms(normalise):
    clips = [moving_bars().draw(5, np.random.default_rng(seed)) for seed in range(2)]
    seen = [replace(c, frames=c.frames[2:], targets=c.targets[2:], teacher=c.teacher[2:]) for c in clips]
    statistics = []
    for some in (clips, seen):
        torch.manual_seed(0)
        propagation = Propagation(num_classes=3).train()
        ClipLoss(propagation, normalise, ONES, last_steps=2, bf16=False)(some).backward()
        assert propagation.training
        statistics.append(dict(propagation.flow.named_buffers()))
    assert all(torch.equal(statistics[0][name], statistics[1][name]) for name in statistics[0])


def test_steps_that_are_not_learned_from_share_no_mixed_precision_casts_with_those_that_are(normalise, monkeypatch):
    """Casts live until the outermost autocast region ends; torch before 2.10 keeps them without gradient."""
    propagation, outermost = Propagation(num_classes=3), []
    real = ClipLoss._advance_without_learning

    def spy(self, *arguments):
        outermost.append(not torch.is_autocast_enabled("cpu"))
        return real(self, *arguments)

    monkeypatch.setattr(ClipLoss, "_advance_without_learning", spy)
    clips = [moving_bars().draw(5, np.random.default_rng(seed)) for seed in range(2)]
    ClipLoss(propagation, normalise, ONES, last_steps=2, bf16=True)(clips).backward()
    assert outermost == [True]
    assert [name for name, p in propagation.named_parameters() if p.grad is None] == []


def test_labels_are_picked_where_corner_aligned_logits_lie():
    labels = torch.arange(9, dtype=torch.uint8).expand(1, 9, 9)
    assert resize_labels(labels, (3, 5), align_corners=True)[0].tolist() == [[0, 2, 4, 6, 8]] * 3
    assert resize_labels(labels, (3, 3))[0].tolist() == [[1, 4, 7]] * 3


def test_the_loss_of_corner_aligned_logits_is_least_for_labels_in_their_own_convention(normalise):
    """A border between two classes that both conventions put into other places, away from the middle."""
    logits = torch.zeros(1, 2, 4, 9)
    logits[:, 1, :, 7:] = 8.0
    logits[:, 0, :, :7] = 8.0
    for align_corners in (False, True):
        aligned, other = (
            F.interpolate(logits, (8, 36), mode="bilinear", align_corners=convention).argmax(1)
            for convention in (align_corners, not align_corners)
        )
        losses = [still_loss(logits, t, torch.ones(2), align_corners=align_corners) for t in (aligned, other)]
        assert losses[0] < losses[1]


def test_clips_are_learned_from_in_the_convention_of_their_logits(normalise):
    propagation, clip = Propagation(num_classes=3).eval(), moving_bars().draw(2, np.random.default_rng(0))
    frames, targets = normalise(clip.frames), resize_labels(clip.targets, (24, 32), align_corners=True).long()
    state = propagation(with_gain(clip.keyframe_logits[None]), frames[:1], frames[1:])
    wanted = still_loss(state[:, :-1], targets[1:], ONES, align_corners=True)
    loss = ClipLoss(propagation, normalise, ONES, align_corners=True, bf16=False)([clip])
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_error_of_the_flow_counts_where_it_is_known():
    flows, known = torch.zeros(1, 2, 2, 3, 4, requires_grad=True), torch.full((1, 2, 2, 3, 4), float("nan"))
    known[:, 0, 0] = 3.0
    known[:, 0, 1] = -1.0
    loss = flow_loss(flows, known)
    loss.backward()
    assert loss.item() == 2.0
    assert flows.grad[:, 1].abs().max() == 0
    assert flow_loss(flows, torch.full_like(known, float("nan"))) == 0


def test_flow_supervision_adds_its_weighed_error(normalise):
    propagation = Propagation(num_classes=3).eval()
    clip = moving_bars().draw(3, np.random.default_rng(0))
    known = replace(clip, flow=torch.ones(2, 2, 12, 16))
    _, flows = advance(propagation, with_gain(clip.keyframe_logits[None]), normalise(clip.frames)[None])
    plain, with_flow, unknown = (
        ClipLoss(propagation, normalise, ONES, flow_supervision=s, bf16=False)([c]).item()
        for s, c in ((0, known), (0.5, known), (0.5, clip))
    )
    assert with_flow == pytest.approx(plain + 0.5 * (flows - 1).abs().mean().item(), rel=1e-5)
    assert unknown == plain


def losses_of(probabilities):
    """Logits (1, 2, 1, N) of which class 0, the true one, has these probabilities; targets; and their losses."""
    p = torch.tensor(probabilities)
    return torch.stack([p, 1 - p]).log()[None, :, None], torch.zeros(1, 1, len(p), dtype=torch.long), -p.log()


def test_hard_pixels_are_those_whose_class_is_less_than_seven_tenths_likely():
    logits, targets, losses = losses_of([0.9, 0.69, 0.71, 0.2])
    assert ohem_loss(logits, targets, min_kept=1).item() == pytest.approx(losses[[1, 3]].mean().item(), rel=1e-6)


def test_where_too_few_pixels_are_hard_the_worst_ones_count():
    logits, targets, losses = losses_of([0.9, 0.8, 0.95, 0.6])
    assert ohem_loss(logits, targets, min_kept=3).item() == pytest.approx(losses[[0, 1, 3]].mean().item(), rel=1e-6)


def test_at_least_a_sixteenth_of_the_labelled_pixels_counts():
    logits, targets, losses = losses_of([0.99 - 0.001 * i for i in range(64)])
    targets[..., :16] = IGNORE
    assert ohem_loss(logits, targets).item() == pytest.approx(losses[-3:].mean().item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["cross-entropy", "ohem"])
def test_a_batch_without_any_label_costs_nothing_by_either_loss(kind):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = label_loss(kind, logits, torch.full((1, 8, 8), IGNORE), ONES)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_presence_is_asked_of_every_class_once_per_image():
    targets = torch.tensor([[[0, 0, 2]], [[1, IGNORE, IGNORE]]])
    presence = torch.tensor([[5.0, -5.0, 5.0], [-5.0, 5.0, 0.0]])
    sure, unsure = math.log1p(math.exp(-5)), math.log(2)
    assert presence_loss(presence, targets).item() == pytest.approx((5 * sure + unsure) / 6, rel=1e-6)


def test_presence_is_not_learned_from_images_without_labels():
    targets = torch.stack([torch.tensor([[0, 0, 2]]), torch.full((1, 3), IGNORE)])
    presence = torch.randn(2, 3, requires_grad=True)
    loss = presence_loss(presence, targets)
    assert loss.item() == pytest.approx(presence_loss(presence[:1], targets[:1]).item())
    loss.backward()
    assert presence.grad[1].abs().max() == 0
    assert presence_loss(presence, torch.full((2, 1, 3), IGNORE)) == 0


def test_a_network_that_tells_which_classes_are_there_learns_it(normalise):
    network = PSPNet18Up(num_classes=3, auxiliary_heads=True)
    loss = StillLoss(network, ONES, distillation=0.0, bf16=False, loss="ohem")
    loss(torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))).backward()
    assert network.presence_head[2].weight.grad.abs().max() > 0
    assert network.classifier.weight.grad.abs().max() > 0
