"""A smallest network that looks at the frames around each frame, whichever chunks they are of (as TDNet does)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, SizeRule, frame_index


class AroundDummy(nn.Module):
    """Labels a frame from itself, up to `before` frames before it and `after` behind it, the nearer the more.

    Each frame runs alone, so that even the last bit does not depend on what else is in a batch.
    """

    def __init__(
        self, *, classes: ClassSet, before: int = 0, after: int = 0, size_rule: SizeRule | None = None
    ) -> None:
        super().__init__()
        self.classes, self.before, self.after = classes, before, after
        self.size_rule = size_rule or SizeRule()
        self.net = nn.Conv2d(3, len(classes), 4, 4)

    def needs(self, height: int, width: int) -> FrameNeeds:
        size = self.size_rule.keyframe_size(height, width)
        return FrameNeeds(keyframe_size=size, before=self.before, after=self.after, basis="neighbours")

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        index = frame_index(chunks)
        own = [tuple(place) for place in chunks.valid.nonzero().tolist()]
        images = {int(index[place]): chunks.frames[place] for place in own} | self._context(chunks)
        scores = {i: self.net(image[None].float() / 64 - 2) for i, image in images.items()}
        for c, p in own:
            i = int(index[c, p])
            seen = [scores[j] / (1 + abs(i - j)) for j in range(i - self.before, i + self.after + 1) if j in scores]
            logits = torch.cat(seen).mean(0, keepdim=True)
            yield LogitsBatch(chunk=torch.tensor([c]), position=torch.tensor([p]), logits=logits)

    def _context(self, chunks: ChunkBatch) -> dict[int, Tensor]:
        """Context frames by index; they are where they were asked for."""
        assert (chunks.before is None, chunks.after is None) == (not self.before, not self.after)
        index = frame_index(chunks)[chunks.valid]
        found: dict[int, Tensor] = {}
        if self.before:
            where = chunks.before_index.tolist()
            assert where == sorted(where)
            assert set(where) <= set(range(chunks.first_frame - self.before, chunks.first_frame))
            found |= dict(zip(where, chunks.before, strict=True))
        if self.after:
            where = chunks.after_index.tolist()
            assert where == sorted(where)
            assert not len(index) or not where or where[0] > index.max()
            assert len(where) <= self.after
            found |= dict(zip(where, chunks.after, strict=True))
        return found


def build_around(before: int = 3, after: int = 2) -> AroundDummy:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AroundDummy(classes=CAMVID, before=before, after=after, size_rule=SizeRule(rows=24)).eval()


def build_alone() -> AroundDummy:
    return build_around(before=0, after=0)
