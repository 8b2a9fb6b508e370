from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import (
    DEAD_TAP,
    INTRA_TAP,
    NEIGHBOURS,
    NUM_TAPS,
    SELF_TAP,
    GuidedFilter,
    LightFlow,
    Propagation,
    find_edges,
    with_gain,
)
from gsvnet.models.segmenter import ChunkBatch, Normalise, SizeRule

THREE = ClassSet(name="three", names=("a", "b", "c"), colours=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def logits_of(labels: list[list[int]], num_classes: int = 4) -> torch.Tensor:
    return F.one_hot(torch.tensor(labels), num_classes).movedim(-1, 0)[None].float()


def one_tap(tap: int, height: int, width: int) -> torch.Tensor:
    weights = torch.zeros(1, NUM_TAPS, height, width)
    weights[:, tap] = 1
    return weights


def tiny_gsvnet(**changes) -> GSVNet:
    torch.manual_seed(0)
    settings = {
        "classes": THREE,
        "keyframe_normalise": Normalise(**IMAGENET),
        "frame_normalise": Normalise(**IMAGENET, channels="bgr"),
        "size_rule": SizeRule(strides=(8,)),
    }
    return GSVNet(nn.Conv2d(3, 3, 4, 4), Propagation(num_classes=3), **settings | changes).eval()


def chunk_of(model: GSVNet, valid: torch.Tensor, *, seed: int = 0, height: int = 48, width: int = 64) -> ChunkBatch:
    g = torch.Generator().manual_seed(seed)
    needs = model.needs(height, width)
    num_chunks, length = valid.shape
    return ChunkBatch(
        first_frame=0,
        num_frames=valid.sum(1),
        keyframes=torch.randint(0, 256, (num_chunks, 3, *needs.keyframe_size), generator=g, dtype=torch.uint8),
        frames=torch.randint(0, 256, (num_chunks, length, 3, *needs.frame_size), generator=g, dtype=torch.uint8),
        valid=valid,
    )


def test_edges_are_where_labels_differ_from_their_neighbours():
    edges = find_edges(logits_of([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]))
    assert edges[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_frame_border_is_an_edge_except_for_class_zero():
    assert find_edges(logits_of([[0] * 3] * 3)).sum() == 0
    assert find_edges(logits_of([[2] * 3] * 3))[0, 0].tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_a_strip_of_2_between_1_and_3_cancels_and_is_no_edge():
    edges = find_edges(logits_of([[1, 2, 3]] * 3))
    assert edges[0, 0, 1, 1] == 0


def test_edges_equal_the_published_convolution():
    logits = torch.randn(2, 7, 9, 11)
    laplacian = torch.ones(1, 1, 3, 3)
    laplacian[..., 1, 1] = -8
    response = F.conv2d(logits.argmax(1, keepdim=True).float(), laplacian, padding=1)
    assert torch.equal(find_edges(logits), (response != 0).float())


@pytest.mark.parametrize(("tap", "shift"), list(enumerate(NEIGHBOURS, start=1)))
def test_a_neighbour_tap_moves_the_map_by_one_pixel(tap, shift):
    x = torch.arange(1.0, 21.0).view(1, 1, 4, 5)
    got = GuidedFilter(num_classes=1).filter(x, torch.zeros_like(x), one_tap(tap, 4, 5))
    wanted = torch.zeros_like(x)
    for row in range(4):
        for column in range(5):
            y, z = row + shift[0], column + shift[1]
            if 0 <= y < 4 and 0 <= z < 5:
                wanted[0, 0, row, column] = x[0, 0, y, z]
    assert torch.equal(got, wanted)


def test_self_dead_and_intra_taps():
    x, intra = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5)
    guided_filter = GuidedFilter(num_classes=3)
    assert torch.equal(guided_filter.filter(x, intra, one_tap(SELF_TAP, 4, 5)), x)
    assert torch.equal(guided_filter.filter(x, intra, one_tap(DEAD_TAP, 4, 5)), torch.zeros_like(x))
    assert torch.equal(guided_filter.filter(x, intra, one_tap(INTRA_TAP, 4, 5)), intra)


def test_weights_sum_to_one_or_are_all_zero():
    guided_filter = GuidedFilter(num_classes=3).eval()
    nn.init.normal_(guided_filter.guide.to_taps[1].bias)
    total = guided_filter.weigh(torch.randn(2, 3, 8, 12), torch.zeros(2, 1, 8, 12)).sum(1)
    assert ((total - 1).abs().lt(1e-5) | (total == 0)).all()


@pytest.mark.parametrize("autocast", [False, True])
def test_where_all_taps_are_off_the_output_is_zero_and_not_nan(autocast):
    guided_filter = GuidedFilter(num_classes=3).eval()
    nn.init.constant_(guided_filter.guide.to_taps[1].bias, -100.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = guided_filter(with_gain(torch.randn(1, 3, 8, 12)), torch.randn(1, 3, 8, 12))
    assert torch.equal(out, torch.zeros(1, 4, 8, 12))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (45, 60), (7, 9), (16, 24)])
def test_propagation_runs_on_any_grid(size):
    propagation = Propagation(num_classes=3).eval()
    state = propagation(with_gain(torch.randn(1, 3, *size)), torch.randn(1, 3, *size), torch.randn(1, 3, *size))
    assert state.shape == (1, 4, *size)
    assert state.isfinite().all()


def test_flow_is_a_quarter_of_the_network_output_in_grid_pixels():
    propagation = Propagation(num_classes=3).eval()
    nn.init.zeros_(propagation.flow.to_flow.weight)
    propagation.flow.to_flow.bias.data = torch.tensor([8.0, -4.0])
    flow = propagation.estimate_flow(torch.rand(1, 3, 12, 20), torch.rand(1, 3, 12, 20))
    assert flow.shape == (1, 2, 12, 20)
    assert torch.allclose(flow[:, 0], torch.tensor(2.0))
    assert torch.allclose(flow[:, 1], torch.tensor(-1.0))


def test_published_sizes_of_the_networks():
    count = {type(m): sum(p.numel() for p in m.parameters()) for m in Propagation(num_classes=19).children()}
    assert count[LightFlow] == 186_402
    assert sum(count.values()) - count[LightFlow] == 210_085 - 81  # the fixed shift kernels are slices here


def test_gain_tells_by_how_much_the_logits_shrank():
    model = tiny_gsvnet()
    guide = model.propagation.guided_filter.guide
    nn.init.zeros_(guide.to_taps[0].weight)
    nn.init.zeros_(guide.to_taps[0].bias)
    taps = torch.zeros(NUM_TAPS)
    taps[SELF_TAP], taps[DEAD_TAP] = 3.0, 1.0  # each step keeps three quarters
    guide.to_taps[1].bias.data = taps
    nn.init.zeros_(model.propagation.flow.to_flow.weight)
    nn.init.zeros_(model.propagation.flow.to_flow.bias)
    keyframe, first, second = model.segment(chunk_of(model, torch.ones(1, 3, dtype=torch.bool)))
    assert keyframe.gain is None
    assert torch.allclose(first.gain, torch.tensor(0.75), atol=1e-4)
    assert torch.allclose(second.gain, torch.tensor(0.75**2), atol=1e-4)
    on_grid = F.interpolate(keyframe.logits, second.logits.shape[-2:], mode="bilinear", align_corners=True)
    assert torch.allclose(second.logits / second.gain, on_grid, atol=1e-3)


def test_segment_equals_one_step_after_another():
    model = tiny_gsvnet()
    chunk = chunk_of(model, torch.ones(2, 4, dtype=torch.bool))
    with torch.no_grad():
        keyframes, *others = model.segment(chunk)
        frames = model.frame_normalise(chunk.frames)
        state = with_gain(F.interpolate(keyframes.logits, (6, 8), mode="bilinear", align_corners=True))
        for position, batch in enumerate(others, start=1):
            state = model.propagation(state, frames[:, position - 1], frames[:, position])
            assert batch.position.tolist() == [position] * 2
            assert torch.allclose(batch.logits, state[:, :-1], atol=1e-5)
            assert torch.allclose(batch.gain, state[:, -1:], atol=1e-5)


def test_a_lost_frame_is_stepped_over():
    model = tiny_gsvnet()
    whole = chunk_of(model, torch.tensor([[True, False, True]]))
    shorter = ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([2]),
        keyframes=whole.keyframes,
        frames=whole.frames[:, [0, 2]],
        valid=torch.ones(1, 2, dtype=torch.bool),
    )
    with torch.no_grad():
        (_, stepped), (_, wanted) = model.segment(whole), model.segment(shorter)
    assert stepped.position.tolist() == [2]
    assert torch.allclose(stepped.logits, wanted.logits, atol=1e-5)


def test_micro_batches_do_not_change_the_numbers():
    valid = torch.ones(3, 3, dtype=torch.bool)
    large, small = tiny_gsvnet(), tiny_gsvnet(keyframe_batch=1, frame_batch=2)
    small.load_state_dict(large.state_dict())
    chunk = chunk_of(large, valid)
    with torch.no_grad():
        wanted = {
            (c, p): x for b in large.segment(chunk) for c, p, x in zip(b.chunk.tolist(), b.position.tolist(), b.logits)
        }
        got = {
            (c, p): x for b in small.segment(chunk) for c, p, x in zip(b.chunk.tolist(), b.position.tolist(), b.logits)
        }
    assert wanted.keys() == got.keys()
    assert all(torch.allclose(got[key], wanted[key], atol=1e-5) for key in wanted)


def test_chunks_of_one_frame_need_no_propagation():
    model = tiny_gsvnet()
    (batch,) = model.segment(chunk_of(model, torch.ones(2, 1, dtype=torch.bool)))
    assert batch.chunk.tolist() == [0, 1]


def test_published_sizes_of_a_cityscapes_frame():
    needs = tiny_gsvnet(size_rule=SizeRule(keyframe_scale=0.75, strides=(8,)), resize="exact").needs(1024, 2048)
    assert (needs.keyframe_size, needs.frame_size, needs.resize) == ((768, 1536), (128, 256), "exact")


def test_keyframes_may_have_a_size_rule_of_their_own():
    needs = tiny_gsvnet(keyframe_size_rule=SizeRule(rows=360)).needs(720, 1280)
    assert (needs.keyframe_size, needs.frame_size) == ((360, 640), (90, 160))


def test_classes_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="3 classes, camvid has 11"):
        tiny_gsvnet(classes=CAMVID)


def test_bfloat16_autocast_stays_close_and_float32():
    model = tiny_gsvnet()
    chunk = chunk_of(model, torch.ones(1, 3, dtype=torch.bool))
    with torch.no_grad():
        exact = list(model.segment(chunk))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = list(model.segment(chunk))
    for a, b in zip(exact, rounded):
        assert b.logits.dtype == torch.float32
        assert (a.logits - b.logits).abs().max() < 0.05 * a.logits.std()


def test_training_reaches_every_part_through_two_steps():
    torch.manual_seed(0)
    propagation = Propagation(num_classes=3).train()
    frames = torch.randn(3, 2, 3, 16, 16).unbind()
    state = with_gain(torch.randn(2, 3, 16, 16))
    for previous, current in pairwise(frames):
        state = propagation(state, previous, current)
    F.cross_entropy(state[:, :-1], torch.randint(0, 3, (2, 16, 16))).backward()
    silent = [name for name, p in propagation.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    assert propagation.flow.conv1[0].weight.grad.abs().sum() > 0
    assert propagation.flow.conv1[1].num_batches_tracked == 2


def test_without_intra_the_guide_sees_one_channel_and_ten_taps():
    propagation = Propagation(num_classes=3, intra=False)
    guide = propagation.guided_filter.guide
    assert (guide.entry[0].in_channels, guide.to_taps[0].out_channels) == (1, NUM_TAPS - 1)
    assert [name for name in propagation.state_dict() if name.startswith("intra")] == []
    assert (propagation.options, Propagation(num_classes=3).options) == ({"intra": False}, {})


def test_without_intra_a_frame_changes_the_state_through_its_flow_alone():
    propagation = Propagation(num_classes=3, intra=False).eval()
    nn.init.zeros_(propagation.flow.to_flow.weight)
    nn.init.zeros_(propagation.flow.to_flow.bias)
    state, previous = with_gain(torch.randn(1, 3, 12, 20)), torch.randn(1, 3, 12, 20)
    a, b = (propagation(state, previous, torch.randn(1, 3, 12, 20)) for _ in range(2))
    assert torch.equal(a, b)


def test_without_intra_segment_equals_one_step_after_another():
    model = tiny_gsvnet()
    model.propagation = Propagation(num_classes=3, intra=False).eval()
    chunk = chunk_of(model, torch.ones(1, 3, dtype=torch.bool))
    with torch.no_grad():
        keyframe, *others = model.segment(chunk)
        frames = model.frame_normalise(chunk.frames)
        state = with_gain(F.interpolate(keyframe.logits, (6, 8), mode="bilinear", align_corners=True))
        for position, batch in enumerate(others, start=1):
            state = model.propagation(state, frames[:, position - 1], frames[:, position])
            assert torch.allclose(batch.logits, state[:, :-1], atol=1e-5)


def test_without_intra_training_reaches_every_part():
    propagation = Propagation(num_classes=3, intra=False).train()
    state = with_gain(torch.randn(2, 3, 16, 16))
    for previous, current in pairwise(torch.randn(3, 2, 3, 16, 16).unbind()):
        state = propagation(state, previous, current)
    F.cross_entropy(state[:, :-1], torch.randint(0, 3, (2, 16, 16))).backward()
    assert [name for name, p in propagation.named_parameters() if p.grad is None] == []
