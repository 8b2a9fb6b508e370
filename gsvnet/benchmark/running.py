"""The network run on chunks: on the CPU or a GPU, in a precision. Needs torch alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from gsvnet.models.prepared import Precision, autocast_to
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch, VideoSegmenter


@torch.inference_mode()
def run_model(
    model: VideoSegmenter, chunks: ChunkBatch, *, precision: Precision, device: str = "cpu"
) -> list[LogitsBatch]:
    """All logits of some chunks, which are on the model's device, when they are there."""
    with autocast_to(device, precision):
        outputs = list(model.segment(chunks))
    wait_for(device)
    return outputs


def first_chunks(chunks: ChunkBatch, num: int) -> ChunkBatch:
    """The first `num` of some chunks."""
    return replace(
        chunks,
        num_frames=chunks.num_frames[:num],
        keyframes=chunks.keyframes[:num],
        frames=None if chunks.frames is None else chunks.frames[:num],
        valid=chunks.valid[:num],
    )


def keyframes_alone(chunks: ChunkBatch) -> ChunkBatch:
    """The same chunks without all frames but the first."""
    return replace(chunks, num_frames=torch.ones_like(chunks.num_frames), valid=chunks.valid[:, :1], frames=None)


def wait_for(device: str) -> None:
    """Return when everything that was queued on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """torch computes in this many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
