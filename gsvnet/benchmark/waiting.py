"""A network that waits instead of computing: a stand-in for an accelerator, which leaves the cores alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, VideoSegmenter


@dataclass
class Wait:
    """How long to wait per frame, and how long it came to; shared by all copies of a network."""

    frame_s: float = 0.0
    total_s: float = 0.0

    def __deepcopy__(self, memo: dict) -> Wait:
        return self

    def __call__(self, num_frames: int) -> None:
        """Wait for so many frames."""
        began_s = time.monotonic()
        time.sleep(self.frame_s * num_frames)
        self.total_s += time.monotonic() - began_s


class WaitingSegmenter(nn.Module):
    """Reads what `model` reads, waits, and answers with logits that were made before.

    outputs: what the model said of some chunks; every later chunk is answered with those of the first one.
    """

    def __init__(self, model: VideoSegmenter, outputs: Sequence[LogitsBatch]) -> None:
        super().__init__()
        self.classes, self._needs, self.wait = model.classes, model.needs, Wait()
        self._answers: dict[int, LogitsBatch] = {}
        for output in outputs:
            for row in (output.chunk == 0).nonzero()[:, 0].tolist():
                self._answers[int(output.position[row])] = _only_row(output, row)

    def needs(self, height: int, width: int) -> FrameNeeds:
        """As the model that it stands for."""
        return self._needs(height, width)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """The prepared logits of every position, each after the wait for its frames."""
        for position in range(chunks.valid.shape[1]):
            chunk = chunks.valid[:, position].nonzero()[:, 0]
            if len(chunk):
                self.wait(len(chunk))
                yield self._answer(chunk, position)

    def _answer(self, chunk: Tensor, position: int) -> LogitsBatch:
        one = self._answers[position]
        return replace(
            one,
            chunk=chunk,
            position=torch.full_like(chunk, position),
            logits=one.logits.expand(len(chunk), -1, -1, -1),
            gain=None if one.gain is None else one.gain.expand(len(chunk), -1, -1, -1),
        )


def _only_row(output: LogitsBatch, row: int) -> LogitsBatch:
    rows = slice(row, row + 1)
    return replace(
        output,
        chunk=output.chunk[rows],
        position=output.position[rows],
        logits=output.logits[rows].clone(),
        gain=None if output.gain is None else output.gain[rows].clone(),
    )
