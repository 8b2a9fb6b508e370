from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.arseg import ARSeg, check_settings
from gsvnet.models.noise import draw_chunks
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
    outputs = [out for out in model.segment(chunk) if out.from_next is not None]
    return sorted(int(p) for out in outputs for p in out.position[out.from_next])


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


def test_nearest_is_before_up_to_the_middle_and_mirrored_beyond(model):
    chunk = chunk_of(with_references(model, "nearest"))
    nearest, before = label(with_references(model, "nearest"), chunk), label(model, chunk)
    mirrored = replace(
        chunk, keyframes=chunk.keyframes.flip(0), motion=chunk.next_motion, motion_valid=chunk.next_motion_valid
    )
    after = label(model, mirrored)
    for position in range(1, LENGTH):
        expected = (after if position > LENGTH / 2 else before)[position]
        torch.testing.assert_close(nearest[position], expected, rtol=1e-4, atol=1e-4)


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
