from __future__ import annotations

import pytest
import torch

from gsvnet.labeling.device import beside_networks, mark, pin, seconds_between, to_device
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch


def chunk_batch():
    return ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([1]),
        keyframes=torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4),
        valid=torch.ones(1, 1, dtype=torch.bool),
        next_valid=torch.ones(1, dtype=torch.bool),
        motion=torch.randn(1, 1, 2, 2, 2),
        motion_valid=torch.ones(1, 1, 2, 2, dtype=torch.bool),
    )


def test_on_a_cpu_nothing_is_copied_or_marked():
    chunks = chunk_batch()
    assert to_device(chunks, "cpu") is chunks
    assert mark("cpu") is None
    with beside_networks(LogitsBatch(chunk=chunks.num_frames, position=chunks.num_frames, logits=torch.ones(1)), None):
        pass


@pytest.mark.gpu
def test_pinned_batches_arrive_whole_on_the_gpu():
    pinned = pin(chunk_batch())
    assert pinned.keyframes.is_pinned()
    moved = to_device(pinned, "cuda")
    assert moved.keyframes.is_cuda
    assert not moved.valid.is_cuda
    assert not moved.next_valid.is_cuda
    assert moved.motion.is_cuda
    assert moved.motion_valid.is_cuda
    assert torch.equal(moved.keyframes.cpu(), chunk_batch().keyframes)
    assert pin(moved).keyframes is moved.keyframes


@pytest.mark.gpu
def test_work_beside_the_networks_sees_what_they_made_and_does_not_wait_for_what_follows():
    begin = mark("cuda", timed=True)
    matrix = torch.randn(8192, 8192, device="cuda")
    logits = (matrix @ matrix)[None, None]
    expected = logits.clone()
    output = LogitsBatch(chunk=torch.zeros(1), position=torch.zeros(1), logits=logits)
    ready = mark("cuda")
    for _ in range(50):
        matrix = matrix @ matrix
    end = mark("cuda", timed=True)
    with beside_networks(output, ready):
        seen = output.logits.cpu()
        followed = end.query()
    assert not followed
    assert torch.equal(seen, expected.cpu())
    assert seconds_between(begin, end) > 0
