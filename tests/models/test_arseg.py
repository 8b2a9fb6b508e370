from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.arseg import ARSeg, check_settings
from gsvnet.models.noise import draw_chunks
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import ChunkBatch, SizeRule
from gsvnet.models.spec import build_model
from gsvnet.models.transfer import with_references
from tests.models.live_bytes import LiveBytes

SMALL = replace(PUBLISHED["arseg-bisenetv1"], classes=CAMVID, size_rule=SizeRule(), resize="area")
LENGTH = 6


@pytest.fixture(scope="module")
def model() -> ARSeg:
    torch.manual_seed(0)
    return build_model(replace(SMALL, propagation={"sampling": "exact"})).eval()


def chunk_of(model: ARSeg) -> ChunkBatch:
    return draw_chunks(model, height=64, width=96, num_chunks=1, interval=LENGTH, device="cpu")


@torch.inference_mode()
def label(model: ARSeg, chunk: ChunkBatch) -> dict[int, torch.Tensor]:
    return {int(p): logits for out in model.segment(chunk) for p, logits in zip(out.position, out.logits)}


@torch.inference_mode()
def drawn_from_next(model: ARSeg, chunk: ChunkBatch) -> list[int]:
    outputs = [out for out in model.segment(chunk) if out.keyframe is not None]
    return sorted(int(p) for out in outputs for p in out.position[out.keyframe == LENGTH])


def test_it_reads_keyframes_in_full_and_all_frames_at_half_the_size(model):
    needs = model.needs(90, 130)
    assert (needs.keyframe_size, needs.frame_size, needs.motion_grid) == ((90, 130), (45, 65), (12, 17))
    assert not needs.next_keyframe
    assert with_references(model, "both").needs(90, 130).next_keyframe


@pytest.mark.parametrize("references", ["nearest", "both"])
def test_frames_beyond_the_middle_draw_on_the_next_keyframe_most(model, references):
    model = with_references(model, references)
    assert drawn_from_next(model, chunk_of(model)) == [4, 5]


@pytest.mark.parametrize("references", ["nearest", "both"])
def test_without_a_next_keyframe_all_frames_draw_on_the_one_before(model, references):
    both_sides = with_references(model, references)
    chunk = replace(chunk_of(both_sides), next_valid=torch.tensor([False]))
    assert drawn_from_next(both_sides, chunk) == []
    alone = label(model, replace(chunk, keyframes=chunk.keyframes[:1]))
    for position, logits in label(both_sides, chunk).items():
        torch.testing.assert_close(logits, alone[position], rtol=1e-4, atol=1e-4)


def mirror(chunk: ChunkBatch) -> ChunkBatch:
    """The chunk with its next keyframe in the place of its own."""
    return replace(
        chunk, keyframes=chunk.keyframes.flip(0), motion=chunk.next_motion, motion_valid=chunk.next_motion_valid
    )


def all_known(chunk: ChunkBatch) -> ChunkBatch:
    everywhere = torch.ones_like(chunk.motion_valid)
    return replace(chunk, motion_valid=everywhere, next_motion_valid=everywhere)


def test_nearest_is_before_up_to_the_middle_and_mirrored_beyond(model):
    chunk = all_known(chunk_of(with_references(model, "nearest")))
    nearest, before = label(with_references(model, "nearest"), chunk), label(model, chunk)
    after = label(model, mirror(chunk))
    for position in range(1, LENGTH):
        expected = (after if position > LENGTH / 2 else before)[position]
        torch.testing.assert_close(nearest[position], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("references", ["nearest", "both"])
def test_where_motion_leads_to_one_keyframe_alone_that_one_is_taken(model, references):
    left = torch.zeros(1, 8, 12, dtype=torch.bool)
    left[..., :6] = True
    own, following = with_references(model, references)._weigh(left, ~left, torch.tensor([0.3]), (8, 12))
    assert torch.equal(own[0], left.float())
    assert torch.equal(following[0], (~left).float())


@pytest.mark.parametrize("references", ["nearest", "both"])
@pytest.mark.parametrize(
    ("own", "following", "from_next"),
    [
        (1.0, 0.5, [4, 5]),
        (1.0, 0.4, []),
        (0.5, 1.0, [4, 5]),
        (0.4, 1.0, [1, 2, 3, 4, 5]),
        (0.0, 0.0, []),
        (1.0, 1.0, [4, 5]),
    ],
)
def test_a_keyframe_to_which_less_than_half_the_motion_leads_is_not_drawn_on(
    references, own, following, from_next, model
):
    model = with_references(model, references)
    chunk = chunk_of(model)
    chunk = replace(chunk, motion_valid=known_in(chunk, own), next_motion_valid=known_in(chunk, following))
    assert drawn_from_next(model, chunk) == from_next


def known_in(chunk: ChunkBatch, share: float) -> torch.Tensor:
    """Motion that is known in the first of ten cells each, up to `share`."""
    cells = torch.arange(chunk.motion_valid[0, 0].numel())
    known = cells < share * len(cells)
    return known.view(chunk.motion_valid.shape[2:]).expand(chunk.motion_valid.shape)


def test_both_are_mixed_by_nearness(model):
    known, unknown = torch.ones(1, 4, 6, dtype=torch.bool), torch.zeros(1, 4, 6, dtype=torch.bool)
    both = with_references(model, "both")

    def weigh(own: torch.Tensor, following: torch.Tensor, share: float) -> list[float]:
        return [float(weight.unique()) for weight in both._weigh(own, following, torch.tensor([share]), (8, 12))]

    assert weigh(known, known, 0.25) == [0.75, 0.25]
    assert weigh(known, unknown, 0.25) == [1, 0]
    assert weigh(unknown, known, 0.25) == [0, 1]
    assert weigh(unknown, unknown, 0.25) == [0, 0]
    assert weigh(unknown, known, 0.0) == [0, 0]  # the next keyframe does not count at all


def test_both_are_one_where_both_show_the_same(model):
    chunk = all_known(chunk_of(with_references(model, "both")))
    same = replace(
        chunk, keyframes=chunk.keyframes[:1].expand(2, -1, -1, -1), motion=chunk.motion, next_motion=chunk.motion
    )
    alone = label(model, replace(same, keyframes=same.keyframes[:1]))
    for position, logits in label(with_references(model, "both"), same).items():
        torch.testing.assert_close(logits, alone[position], rtol=1e-4, atol=1e-4)


def test_a_next_keyframe_that_does_not_count_may_be_anything(model):
    model = with_references(model, "both")
    chunk = draw_chunks(model, height=64, width=96, num_chunks=2, interval=3, device="cpu")
    motion = chunk.next_motion.clone()
    motion[1] = torch.nan
    chunk = replace(chunk, next_motion=motion, next_valid=torch.tensor([True, False]))
    with torch.inference_mode():
        assert all(out.logits.isfinite().all() for out in model.segment(chunk))


def test_nearness_counts_lost_frames(model):
    """Frames 1 to 6 of 12 are lost: frame 7 stands at position 1, five frames before the next keyframe."""
    model = with_references(model, "nearest")
    chunk = replace(chunk_of(model), index=torch.tensor([[0, 7, 8, 9, 10, 11]]), next_index=torch.tensor([12]))
    with torch.inference_mode():
        keyframes = {
            int(p): int(k)
            for o in model.segment(chunk)
            if o.keyframe is not None
            for p, k in zip(o.position, o.keyframe)
        }
    assert keyframes == dict.fromkeys(range(1, 6), 12)


@torch.inference_mode()
def test_who_draws_on_the_keyframe_before_alone_need_not_say_so(model):
    assert all(output.keyframe is None for output in model.segment(chunk_of(model)))


def test_networks_of_two_classes_are_refused(model):
    with pytest.raises(ModelError, match="one class, not of BiSeNetV1 and PSPNet18"):
        ARSeg(model.keyframe_network, PSPNet18(num_classes=11), model.fusion, classes=CAMVID, normalise=model.normalise)


@torch.no_grad()
def test_what_is_not_known_is_nothing(model):
    feature, motion = torch.ones(1, 256, 8, 12), torch.zeros(1, 2, 8, 12)
    known = torch.ones(1, 8, 12, dtype=torch.bool)
    known[0, 3, 4] = False
    brought = model.bring(feature, motion, known)
    assert torch.equal(brought[0, 0] > 0.5, known[0])


@torch.no_grad()
def test_motion_of_any_grid_is_in_pixels_of_that_grid(model):
    feature = torch.rand(1, 256, 8, 12)
    for factor in (1, 4):
        motion = torch.zeros(1, 2, 8 * factor, 12 * factor)
        motion[:, 0] = 3 * factor
        brought = model.bring(feature, motion, torch.ones(1, 8 * factor, 12 * factor, dtype=torch.bool))
        torch.testing.assert_close(brought[..., :9], feature[..., 3:])


@torch.no_grad()
def test_grids_of_other_counts_lie_on_each_other(model):
    """45 rows of motion on 46 of the feature, 20 columns on 44: each cell of the mask where its centre is nearest."""
    known = torch.rand(45, 20) < 0.5
    row = ((torch.arange(46) + 0.5) * 45 / 46).long()
    column = ((torch.arange(44) + 0.5) * 20 / 44).long()
    brought = model.bring(torch.ones(1, 256, 46, 44), torch.zeros(1, 2, 45, 20), known[None])
    assert torch.equal(brought[0, 0] > 0.5, known[row][:, column])


@torch.no_grad()
def test_motion_is_scaled_along_each_axis_by_itself(model):
    """A cell of motion is 2 pixels of the feature high and 4 wide."""
    feature, motion = torch.rand(1, 256, 8, 24), torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 6)
    brought = model.bring(feature, motion, torch.ones(1, 4, 6, dtype=torch.bool))
    torch.testing.assert_close(brought[..., :4, :20], feature[..., 4:, 4:])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": 0}, "scale 0 of the frames"),
        ({"scale": 1.5}, "at most 1 is allowed"),
        ({"scale": "half"}, "scale 'half'"),
        ({"sampling": "nearest"}, "sampling 'nearest'; allowed: exact, published"),
        ({"references": "after"}, "references 'after'; allowed: before, nearest, both"),
    ],
)
def test_settings_it_does_not_know_are_refused(settings, words):
    with pytest.raises(ModelError, match=words):
        check_settings(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bisenetv1", "pspnet18", "pspnet18up"])
@pytest.mark.parametrize("references", ["before", "both"])
@torch.inference_mode()
def test_memory_is_about_as_stated(name, references):
    spec = PUBLISHED[f"arseg-{name}"]
    model = with_references(build_model(replace(spec, size_rule=SizeRule(), resize="area")).eval(), references)
    model.memory_bytes = 0
    height, width = 360, 480
    chunk = draw_chunks(model, height=height, width=width, num_chunks=1, interval=3, device="cpu")
    with LiveBytes() as live:
        for _ in model.segment(chunk):
            pass
    stated = model.peak_bytes(height, width, 3)
    assert 0.9 * live.peak <= stated <= 2 * live.peak
