from __future__ import annotations

from dataclasses import replace

import torch

from gsvnet.models.checkpoints import load_model
from gsvnet.models.noise import draw_chunks
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import FrameNeeds, SizeRule, frame_index
from gsvnet.models.spec import build_model
from gsvnet.models.transfer import with_references


def test_chunks_are_what_the_model_reads():
    model = load_model("default")
    needs = model.needs(72, 96)
    chunks = draw_chunks(model, height=72, width=96, num_chunks=2, interval=3, device="cpu")
    assert chunks.keyframes.shape == (2, 3, *needs.keyframe_size)
    assert chunks.frames.shape == (2, 3, 3, *needs.frame_size)
    assert chunks.keyframes.dtype == torch.uint8
    assert chunks.keyframes.movedim(-3, -1).is_contiguous()  # as decoded frames lie in memory
    assert chunks.frames.movedim(-3, -1).is_contiguous()
    assert sum(len(out.chunk) for out in model.segment(chunks)) == 2 * 3


def test_equal_calls_give_equal_noise():
    model = load_model("default")
    first, second = (
        draw_chunks(model, height=72, width=96, num_chunks=1, interval=2, device="cpu").frames for _ in range(2)
    )
    assert torch.equal(first, second)


def test_motion_and_the_next_keyframe_are_drawn_where_they_are_read():
    model = with_references(build_model(PUBLISHED["arseg-bisenetv1"]), "both").eval()
    model.size_rule = SizeRule()
    chunks = draw_chunks(model, height=64, width=96, num_chunks=2, interval=3, device="cpu")
    assert chunks.keyframes.shape == (3, 3, 64, 96)
    assert chunks.next_valid.all()
    assert chunks.motion.shape == chunks.next_motion.shape == (2, 3, 2, 8, 12)
    assert chunks.motion_valid.shape == chunks.next_motion_valid.shape == (2, 3, 8, 12)
    assert 0 < chunks.motion_valid.float().mean() < 1
    assert not torch.equal(chunks.motion, chunks.next_motion)
    alone = draw_chunks(with_references(model, "before"), height=64, width=96, num_chunks=2, interval=3, device="cpu")
    assert alone.keyframes.shape == (2, 3, 64, 96)
    assert (alone.next_motion, alone.next_valid) == (None, None)


class LooksAround:
    """Wants frames around its chunks; nobody runs it."""

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(height, width), before=3, after=2)


def test_frames_around_the_chunks_are_drawn_where_they_are_looked_at():
    chunks = draw_chunks(LooksAround(), height=8, width=12, num_chunks=2, interval=4, device="cpu")
    assert (chunks.before.shape, chunks.after.shape) == ((3, 3, 8, 12), (2, 3, 8, 12))
    assert (chunks.before_index.tolist(), chunks.after_index.tolist()) == ([0, 1, 2], [11, 12])
    assert frame_index(chunks).tolist() == [[3, 4, 5, 6], [7, 8, 9, 10]]
    assert chunks.before.movedim(-3, -1).is_contiguous()


def test_they_change_nothing_of_what_else_is_drawn():
    model = load_model("default")
    size = {"height": 72, "width": 96, "num_chunks": 1, "interval": 2, "device": "cpu"}
    alone = draw_chunks(model, **size)
    around = draw_chunks(Around(model), **size)
    assert (alone.first_frame, alone.before, alone.after_index) == (0, None, None)
    assert torch.equal(around.frames, alone.frames)
    assert torch.equal(around.keyframes, alone.keyframes)


class Around:
    """A network that looks at one more frame than `model`."""

    def __init__(self, model):
        self.model = model

    def needs(self, height, width):
        return replace(self.model.needs(height, width), before=1)
