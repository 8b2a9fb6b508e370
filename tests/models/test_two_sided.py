from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.prepared import prepare_for_inference
from gsvnet.models.propagation import SELF_TAP, with_gain
from gsvnet.models.runs import Runs, Timeline, whole_chunks
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch
from gsvnet.models.steps import Views
from gsvnet.models.transfer import with_references
from gsvnet.models.two_sided import (
    CHANGE_LEVELS,
    NEAR_FRAMES,
    Reach,
    enlarge_flow,
    find_reach,
    fuse_sides,
    measure_change,
    trust_after,
    turn_round,
)
from gsvnet.nn.best_class import best_class
from gsvnet.nn.warp import warp
from tests.models.test_gsvnet import tiny_gsvnet
from tests.tiny_gsvnet import build_gsvnet

SIZE = (48, 64)


def two_sided_gsvnet() -> GSVNet:
    """With all taps in use and a flow that is not zero."""
    model = tiny_gsvnet(references="both")
    torch.manual_seed(3)
    nn.init.uniform_(model.propagation.guided_filter.guide.to_taps[1].bias, 0.2, 1)
    nn.init.normal_(model.propagation.flow.to_flow.bias, std=3)
    return model


def standing_gsvnet() -> GSVNet:
    """A propagation that sees no motion and keeps what it has."""
    model = tiny_gsvnet(references="both")
    to_taps = model.propagation.guided_filter.guide.to_taps
    for parameter in (*to_taps.parameters(), *model.propagation.flow.to_flow.parameters()):
        nn.init.zeros_(parameter)
    to_taps[1].bias.data[SELF_TAP] = 1.0
    return model


def chunks_between(
    model: GSVNet,
    valid: Tensor,
    *,
    followed: list[bool] | None = None,
    seed: int = 0,
) -> ChunkBatch:
    """Noise, with the keyframe behind each chunk; every chunk's keyframe is its first frame on both sizes."""
    g = torch.Generator().manual_seed(seed)
    needs = model.needs(*SIZE)
    assert needs.frame_size is not None
    num_chunks, length = valid.shape

    def noise(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)

    return ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([int(row.nonzero().max()) + 1 if row.any() else 0 for row in valid]),
        keyframes=noise(num_chunks + 1, 3, *needs.keyframe_size),
        frames=noise(num_chunks, length, 3, *needs.frame_size),
        valid=valid,
        next_frames=noise(num_chunks, 3, *needs.frame_size),
        next_valid=torch.tensor([True] * num_chunks if followed is None else followed),
    )


def take(chunks: ChunkBatch, c: int, length: int) -> ChunkBatch:
    """Chunk c alone, at its own length."""
    assert chunks.frames is not None
    assert chunks.next_frames is not None
    assert chunks.next_valid is not None
    return replace(
        chunks,
        first_frame=int(chunks.num_frames[:c].sum()),
        num_frames=chunks.num_frames[c : c + 1],
        keyframes=chunks.keyframes[c : c + 2],
        frames=chunks.frames[c : c + 1, :length],
        valid=chunks.valid[c : c + 1, :length],
        next_frames=chunks.next_frames[c : c + 1],
        next_valid=chunks.next_valid[c : c + 1],
    )


@torch.no_grad()
def label(model: GSVNet, chunks: ChunkBatch) -> dict[tuple[int, int], LogitsBatch]:
    """A LogitsBatch of one frame each, by chunk and position."""
    return {
        (int(c), int(p)): LogitsBatch(
            chunk=c[None],
            position=p[None],
            logits=batch.logits[i],
            keyframe=None if batch.keyframe is None else batch.keyframe[i],
            sides=None if batch.sides is None else batch.sides[i],
        )
        for batch in model.segment(chunks)
        for i, (c, p) in enumerate(zip(batch.chunk, batch.position, strict=True))
    }


def assert_same(got: LogitsBatch, wanted: LogitsBatch) -> None:
    torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-4, atol=1e-5)


def state(*logits: float, gain: float = 1.0) -> Tensor:
    """(1, C + 1, 1, 1)."""
    return torch.tensor([*logits, gain]).view(1, -1, 1, 1)


def fuse(before: Tensor, behind: Tensor, *, nearness: float, trust: tuple[float, float] = (1.0, 1.0)) -> list[float]:
    trusts = [torch.full((1, 1, 1, 1), value) for value in trust]
    fused = fuse_sides(
        before, behind, trust_before=trusts[0], trust_behind=trusts[1], nearness=torch.tensor([nearness])
    )
    return fused.flatten().tolist()


def test_sides_that_are_as_sure_and_trusted_count_by_nearness():
    assert fuse(state(4.0, 0.0), state(0.0, 4.0), nearness=0.25) == pytest.approx([3, 1, 1])


def test_what_both_sides_say_stays():
    same = state(1.0, -2.0, gain=0.5)
    assert fuse(same, same, nearness=0.7, trust=(0.2, 0.9)) == pytest.approx([1, -2, 0.5])


def test_an_untrusted_side_hardly_counts():
    left = fuse(state(4.0, 0.0), state(0.0, 4.0), nearness=0.5, trust=(1.0, 0.0))[0]
    assert left == pytest.approx(4 * 1.01 / 1.02)


def test_a_surer_side_counts_more():
    """Softmax gives the one side's best class 3/4, the other's 1/2."""
    sure, unsure = state(float(torch.tensor(3.0).log()), 0.0), state(0.0, 0.0)
    assert fuse(sure, unsure, nearness=0.5)[0] == pytest.approx(float(torch.tensor(3.0).log()) * 0.75 / 1.25)


def test_how_sure_a_side_is_does_not_depend_on_what_scaled_its_logits():
    """The gain is 1/2 for half as large logits, so both sides are as sure."""
    assert fuse(state(4.0, 0.0), state(0.0, 2.0, gain=0.5), nearness=0.5) == pytest.approx([2, 1, 0.75])


def test_change_is_measured_where_the_flow_leads():
    source = torch.arange(6.0).expand(1, 3, 2, 6) * 10
    right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 6)
    moved = measure_change(source, source, right)
    assert moved.flatten().tolist() == pytest.approx([10, 10, 10, 10, 10, 0] * 2, abs=1e-3)  # the rim goes on
    assert measure_change(source, source, torch.zeros(1, 2, 2, 6)).abs().max() < 1e-3


def test_trust_falls_with_change_and_ends_beyond_the_border():
    trust, change = torch.ones(1, 1, 1, 4), torch.full((1, 1, 1, 4), CHANGE_LEVELS)
    right = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    after = trust_after(trust, right, change)
    assert after.flatten().tolist() == pytest.approx([0.36788, 0.36788, 0, 0], abs=1e-4)


def standing_chunks(model: GSVNet, *, length: int) -> ChunkBatch:
    """One picture throughout."""
    chunks = chunks_between(model, torch.ones(1, length, dtype=torch.bool))
    assert chunks.frames is not None
    still = chunks.frames[:, :1]
    return replace(
        chunks,
        keyframes=chunks.keyframes[:1].expand(2, -1, -1, -1),
        frames=still.expand_as(chunks.frames),
        next_frames=still[:, 0],
    )


def test_a_standing_scene_keeps_the_keyframes_labels():
    model = standing_gsvnet()
    labeled = label(model, standing_chunks(model, length=12))
    wanted = model.enter_grid(labeled[0, 0].logits[None], (6, 8))[0, :-1]
    for position in range(4, 9):
        torch.testing.assert_close(labeled[0, position].logits, wanted, rtol=1e-3, atol=1e-4)
        assert torch.equal(labeled[0, position].sides, best_class(wanted[None]).expand(2, -1, -1))


def test_without_a_keyframe_behind_it_is_forward_propagation():
    both = two_sided_gsvnet()
    forward = tiny_gsvnet()
    forward.load_state_dict(both.state_dict())
    chunks = chunks_between(both, torch.ones(1, 5, dtype=torch.bool), followed=[False])
    got, wanted = label(both, chunks), label(forward, replace(chunks, keyframes=chunks.keyframes[:1]))
    assert got.keys() == wanted.keys()
    for place, batch in got.items():
        assert_same(batch, wanted[place])
        assert batch.sides is None


def test_time_has_no_direction():
    """What a keyframe on one side is to a frame, the keyframe on the other is to the same frames backwards."""
    model = two_sided_gsvnet()
    chunks = chunks_between(model, torch.ones(1, 6, dtype=torch.bool))
    frames = torch.cat([chunks.frames[0], chunks.next_frames])
    backwards = replace(
        chunks, keyframes=chunks.keyframes.flip(0), frames=frames.flip(0)[None, :-1], next_frames=frames[:1]
    )
    there, back = label(model, chunks), label(model, backwards)
    for position in range(1, 6):
        assert_same(back[0, 6 - position], there[0, position])


def test_short_chunks_lost_frames_and_padding_are_as_alone():
    model = two_sided_gsvnet()
    valid = torch.tensor(
        [
            [True] * 6,
            [True, True, False, True, True, True],
            [True, True, True, True, False, False],
            [True, False, False, False, False, False],
            [False] * 6,
        ]
    )
    chunks = chunks_between(model, valid, followed=[True, True, True, False, False])
    together = label(model, chunks)
    assert sorted(together) == [(int(c), int(p)) for c, p in valid.nonzero()]
    for c, length in enumerate([6, 6, 4, 1]):
        for (_, position), alone in label(model, take(chunks, c, length)).items():
            assert_same(together[c, position], alone)


EMPTY, WHOLE, SHORT, GAPPED = [False] * 6, [True] * 6, [True] * 4 + [False] * 2, [True, True, False, False, True, True]


@pytest.mark.parametrize("chunk", [WHOLE, SHORT, GAPPED], ids=["whole", "short", "gapped"])
@pytest.mark.parametrize("other", [SHORT, GAPPED, EMPTY], ids=["short", "gapped", "empty"])
def test_what_else_is_in_a_batch_changes_not_even_the_last_bit(chunk, other):
    """In the order of memory that labeling has, and with enough classes that the order of a sum can be seen."""
    model = prepare_for_inference(with_references(build_gsvnet(), "both"), device="cpu", precision="fp32")

    def label_first(other, *, followed):
        chunks = chunks_between(model, torch.tensor([chunk, other]), followed=[True, followed])
        return {place: batch.logits for place, batch in label(model, chunks).items() if place[0] == 0}

    found, expected = label_first(other, followed=False), label_first(WHOLE, followed=True)
    assert [place for place in expected if not torch.equal(found[place], expected[place])] == []


def test_flow_is_found_for_the_same_positions_whatever_is_in_a_batch(monkeypatch):
    """So the networks run over as many images at once, of which their last bits depend."""
    model, asked, flow = two_sided_gsvnet(), set(), Views.flow

    def remember(views, positions, sources):
        asked.add(frozenset(positions))
        return flow(views, positions, sources)

    monkeypatch.setattr(Views, "flow", remember)
    for first in (WHOLE, SHORT, GAPPED):
        for second in (WHOLE, SHORT, EMPTY):
            for followed in (True, False):
                label(model, chunks_between(model, torch.tensor([first, second]), followed=[True, followed]))
    usual = frozenset({1, 2, 3}), frozenset({3, 4, 5})  # near their keyframe, and where the other side only moves
    assert asked == {*usual, *(frozenset(range(7)) - positions for positions in usual)}


def test_a_lost_frame_is_stepped_over_from_both_sides():
    """Frame 3 of 6 is lost: the others are labeled as if it had never been there, at the distances that they have."""
    model = two_sided_gsvnet()
    valid = torch.tensor([[True, True, True, False, True, True]])
    chunks = chunks_between(model, valid)
    kept = [0, 1, 2, 4, 5]
    without = replace(
        chunks,
        num_frames=torch.tensor([5]),
        frames=chunks.frames[:, kept],
        valid=valid[:, kept],
        index=torch.tensor([kept]),
        next_index=torch.tensor([6]),
    )
    got, wanted = label(model, chunks), label(model, without)
    for place, position in enumerate(kept):
        assert_same(got[0, position], wanted[0, place])


def test_frames_name_the_nearer_keyframe():
    model = two_sided_gsvnet()
    chunks = replace(chunks_between(model, torch.ones(1, 6, dtype=torch.bool)), first_frame=30)
    labeled = label(model, chunks)
    assert [int(labeled[0, p].keyframe) for p in range(1, 6)] == [30, 30, 30, 36, 36]


def reach_of(index: list[int], *, share: float, followed: bool = True) -> Reach:
    """Of one run. index: of its frames, the keyframe behind at the end."""
    timeline = Timeline(
        frames=torch.zeros(1, len(index), 3, 2, 2),
        valid=torch.tensor([[True] * (len(index) - 1) + [followed]]),
        index=torch.tensor([index]),
        has_next=True,
    )
    return find_reach(whole_chunks(timeline), timeline, one_sided_share=share)


def offsets_of(side: Tensor) -> list[int]:
    return side[:, 0].nonzero()[:, 0].tolist()


def test_all_frames_are_reached_from_both_sides_and_keyframes_from_none():
    reach = reach_of(list(range(5)), share=1 / 3)
    assert (offsets_of(reach.before.reached), offsets_of(reach.behind.reached)) == ([1, 2, 3], [1, 2, 3])


def test_far_from_their_keyframe_labels_only_move():
    reach = reach_of(list(range(13)), share=1 / 3)
    assert (offsets_of(reach.before.stepped), offsets_of(reach.behind.stepped)) == ([*range(1, 9)], [*range(4, 12)])


def test_with_no_share_for_one_side_every_frame_is_stepped_onto_from_both():
    reach = reach_of(list(range(4)), share=0.0)
    assert (offsets_of(reach.before.stepped), offsets_of(reach.behind.stepped)) == ([1, 2], [1, 2])


def test_where_steps_end_goes_by_the_videos_own_counting():
    """Of 12 frames only 0, 1, 8 and 9 are left: 1 is near the keyframe before, 9 near the one behind."""
    reach = reach_of([0, 1, 8, 9, 12], share=1 / 3)
    assert (offsets_of(reach.before.stepped), offsets_of(reach.behind.stepped)) == ([1, 2], [2, 3])


def test_where_no_keyframe_follows_all_is_stepped_onto_from_before():
    reach = reach_of(list(range(5)), share=1 / 3, followed=False)
    assert (offsets_of(reach.before.stepped), offsets_of(reach.behind.reached)) == ([1, 2, 3], [])


def test_runs_of_unequal_length_reach_their_own_frames():
    timeline = Timeline(
        frames=torch.zeros(1, 7, 3, 2, 2),
        valid=torch.ones(1, 7, dtype=torch.bool),
        index=torch.arange(7)[None],
        has_next=True,
    )
    runs = Runs(
        chunk=torch.tensor([0, 0]),
        start=torch.tensor([0, 4]),
        stop=torch.tensor([4, 6]),
        followed=torch.tensor([True, True]),
    )
    reach = find_reach(runs, timeline, one_sided_share=0.0)
    own = [[False, True, True, True], [False, True, False, False]]
    assert reach.before.reached.T.tolist() == reach.behind.reached.T.tolist() == own


@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.5])
def test_sides_are_given_exactly_where_both_reach(share, monkeypatch):
    model = two_sided_gsvnet()
    monkeypatch.setattr("gsvnet.models.gsvnet.find_reach", partial(find_reach, one_sided_share=share))
    chunks = chunks_between(model, torch.ones(2, 4, dtype=torch.bool), followed=[True, False])
    labeled = label(model, chunks)
    assert sorted(place for place, batch in labeled.items() if batch.sides is not None) == [(0, 1), (0, 2), (0, 3)]
    sides = labeled[0, 2].sides
    assert sides.shape == (2, 6, 8)
    assert sides.dtype == torch.uint8


def test_a_flow_turned_round_leads_back():
    there = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand(1, 2, 6, 8)
    assert torch.allclose(turn_round(there), -there)


def two_frames_between(model: GSVNet, *, frames_apart: int) -> tuple[ChunkBatch, Tensor, Tensor]:
    """A chunk of 3 with its keyframe behind, the states of both keyframes, and all four frames, normalised."""
    places = torch.arange(4) * frames_apart
    chunks = replace(
        chunks_between(model, torch.ones(1, 3, dtype=torch.bool)), index=places[None, :3], next_index=places[3:]
    )
    frames = torch.cat([chunks.frames[0], chunks.next_frames])
    logits = model.keyframe_network(model.keyframe_normalise(chunks.keyframes))
    return chunks, model.enter_grid(logits, frames.shape[-2:]), model.frame_normalise(frames)


def test_near_a_keyframe_of_a_standing_scene_its_own_finer_logits_come_back():
    """The detail that the propagation grid left out is added again, on the keyframe's own grid."""
    model = standing_gsvnet()
    labeled = label(model, standing_chunks(model, length=12))
    own = labeled[0, 0].logits
    for position in (1, 2, 3, 9, 10, 11):
        torch.testing.assert_close(labeled[0, position].logits, own, rtol=1e-3, atol=1e-4)
    assert labeled[0, 4].logits.shape[-2:] == labeled[0, 8].logits.shape[-2:] == (6, 8)
    assert own.shape[-2:] == (12, 16)


def test_a_flow_on_a_finer_grid_is_in_that_grids_pixels():
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5)
    edges, centres = (enlarge_flow(flow, (6, 15), align_corners=corners)[0, :, 0, 0] for corners in (False, True))
    assert edges.tolist() == [6, -2]
    assert centres.tolist() == [7, -2.5]  # 14 gaps in place of 4, 5 in place of 2


@torch.no_grad()
def test_labels_that_only_move_are_the_last_step_moved_along_the_flow():
    """Frame 1 is stepped onto from before, frame 2 from behind; the other way on they only move."""
    model = two_sided_gsvnet()
    chunks, states, frames = two_frames_between(model, frames_apart=NEAR_FRAMES + 1)
    stepped = model.propagation(states[:1], frames[:1], frames[1:2])
    moved = warp(stepped, turn_round(model.propagation.estimate_flow(frames[1:2], frames[2:3])))
    behind = model.propagation(states[1:], frames[3:], frames[2:3])
    wanted = torch.cat([best_class(moved[:, :-1]), best_class(behind[:, :-1])])
    assert torch.equal(label(model, chunks)[0, 2].sides, wanted)


@torch.no_grad()
def test_near_a_keyframe_half_of_its_labels_never_saw_the_filter(monkeypatch):
    model = two_sided_gsvnet()
    monkeypatch.setattr("gsvnet.models.gsvnet.find_reach", partial(find_reach, one_sided_share=0.0))
    chunks, states, frames = two_frames_between(model, frames_apart=NEAR_FRAMES)
    flow = model.propagation.estimate_flow(frames[1:2], frames[:1])
    before = (warp(states[:1], flow) + model.propagation(states[:1], frames[:1], frames[1:2])) / 2
    behind = model.propagation(states[1:], frames[3:], frames[2:3])
    behind = model.propagation(behind, frames[2:3], frames[1:2])
    wanted = torch.cat([best_class(before[:, :-1]), best_class(behind[:, :-1])])
    assert torch.equal(label(model, chunks)[0, 1].sides, wanted)


@torch.no_grad()
def test_the_order_in_memory_changes_no_bit_of_fused_states():
    torch.manual_seed(0)
    states = [with_gain(torch.randn(2, 11, 24, 32) * 4) for _ in range(2)]
    trust = [torch.rand(2, 1, 24, 32) for _ in range(2)]
    other = [state.contiguous(memory_format=torch.channels_last) for state in states]
    nearness = torch.tensor([0.3, 0.6])
    fused = [fuse_sides(*s, trust_before=trust[0], trust_behind=trust[1], nearness=nearness) for s in (states, other)]
    assert torch.equal(*fused)
