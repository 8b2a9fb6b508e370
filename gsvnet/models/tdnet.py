"""TDNet: N shallow networks take turns over the frames, and each frame gathers what the others saw around it.

P. Hu, F. Caba Heilbron, O. Wang, Z. Lin, S. Sclaroff, F. Perazzi, "Temporally Distributed Networks for Fast Video
Semantic Segmentation", CVPR 2020. Read top to bottom like the paper's figure:

    frame i --trunk of sub-network i mod N--> feature --> query, value
                                              every 4th row and column of it --> memory: query, key, value
    memories of the N - 1 frames before --attention, hop by hop, from the oldest on--> what they saw, where frame i is
    value + that --spatial norm--head--> logits

A memory depends on its own frame alone, so nothing is recursive: here one sub-network runs over all its frames of a
batch, and then all frames gather at once. The authors' loop goes frame by frame and keeps lists. What only labeling
afterwards can do: gather from the frames behind, too, and let all sub-networks look at a frame.

Shapes: N sub-networks, n frames, D value channels, H W the image, h w the feature's grid, p q the memory's.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from gsvnet.choices import Ensemble, References
from gsvnet.classes import ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.frames_in_batch import Batch, FramesInBatch, even_batches
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, Normalise, Resize, SizeRule
from gsvnet.models.sub_network import KEY_CHANNELS, Memory, SubNetwork
from gsvnet.models.windows import Window, choose_windows

MOST_ROWS = 4096  # and columns of a spatial norm's maps: a frame of 32,768 pixels


def check_settings(
    *,
    references: str = "before",
    ensemble: str = "none",
    memory_stride: int = 4,
    map_rows: int = 1,
    map_columns: int = 1,
) -> None:
    """Raises ModelError for settings that TDNet does not know; a checkpoint may hold any value."""
    for name, value, allowed in (
        ("references", references, get_args(References)),
        ("ensemble", ensemble, get_args(Ensemble)),
    ):
        if value not in allowed:
            raise ModelError(f"{name} {value!r}; allowed: {', '.join(allowed)}")
    for name, number, most in (
        ("memory_stride", memory_stride, 64),
        ("map_rows", map_rows, MOST_ROWS),
        ("map_columns", map_columns, MOST_ROWS),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise ModelError(f"{name} {number!r}; allowed: a whole number from 1 to {most}")


class TDNet(nn.Module):
    """N sub-networks of one kind as a VideoSegmenter. Frame i of a video is labeled by sub-network i mod N.

    references: which frames a frame gathers from. "before": the N - 1 just before it, as published. "nearest": of each
    other sub-network the nearest frame, on either side, before it where two are as near. "both": the mean of what those
    before and those behind give. "none": no others. A frame some of whose others are not there (the first of a video,
    lost frames), gathers from the other side where it may, and from nothing else.
    ensemble: frames that all sub-networks label, each as if it were its turn; their probabilities are averaged.
    memory_stride: every so many rows and columns of a feature are remembered; None: as the trunk has it.
    micro_batch: frames that run at once.
    """

    def __init__(
        self,
        sub_networks: Sequence[SubNetwork],
        *,
        classes: ClassSet,
        normalise: Normalise,
        size_rule: SizeRule | None = None,
        references: References = "before",
        ensemble: Ensemble = "none",
        memory_stride: int | None = None,
        resize: Resize = "area",
        align_corners: bool = True,
        micro_batch: int = 8,
    ) -> None:
        super().__init__()
        if len(sub_networks) < 2:
            raise ModelError(f"TDNet shares work among 2 or more sub-networks, not {len(sub_networks)}")
        trunks = {type(part.trunk).__name__ for part in sub_networks}
        sizes = {tuple(part.norm.weight.shape) for part in sub_networks}
        hops = {len(part.hops) for part in sub_networks}
        if len(trunks) > 1 or len(sizes) > 1 or hops != {len(sub_networks) - 1}:
            raise ModelError(
                f"TDNet's sub-networks are of one kind, with hops to all others: these have trunks {sorted(trunks)}, "
                f"norms of {sorted(sizes)}, {sorted(hops)} hops for {len(sub_networks)} of them"
            )
        self.memory_stride = sub_networks[0].trunk.memory_stride if memory_stride is None else memory_stride
        check_settings(references=references, ensemble=ensemble, memory_stride=self.memory_stride)
        self.sub_networks = nn.ModuleList(sub_networks)
        self.classes, self.normalise, self.size_rule = classes, normalise, size_rule or SizeRule()
        self.references: References = references
        self.ensemble: Ensemble = ensemble
        self.resize, self.align_corners, self.micro_batch = resize, align_corners, micro_batch

    @property
    def num_sub_networks(self) -> int:
        """N."""
        return len(self.sub_networks)

    @property
    def options(self) -> dict[str, int | str]:
        """JSON-ready constructor arguments that are TDNet's own, and the size of the norms' maps."""
        rows, columns = self.sub(0).norm.weight.shape
        return {
            "references": self.references,
            "ensemble": self.ensemble,
            "memory_stride": self.memory_stride,
            "map_rows": rows,
            "map_columns": columns,
        }

    def sub(self, turn: int) -> SubNetwork:
        """The sub-network whose turn it is at frames `turn` (mod N)."""
        part = self.sub_networks[turn % len(self.sub_networks)]
        assert isinstance(part, SubNetwork)
        return part

    def needs(self, height: int, width: int) -> FrameNeeds:
        """All frames at one size, and N - 1 more on the sides that are looked at."""
        before, after = self._num_around
        return FrameNeeds(
            keyframe_size=self.size_rule.keyframe_size(height, width),
            resize=self.resize,
            before=before,
            after=after,
            basis="neighbours",
        )

    @property
    def _num_around(self) -> tuple[int, int]:
        """How many frames before a batch are looked at, and how many after it."""
        others = self.num_sub_networks - 1
        return {"none": (0, 0), "before": (others, 0), "nearest": (others, others), "both": (others, others)}[
            self.references
        ]

    def peak_bytes(self, height: int, width: int, interval: int, *, num_chunks: int = 1) -> int:
        """About what chunks of a video of this size take at most: queries, values, memories, one micro-batch's work."""
        size, trunk = self.size_rule.keyframe_size(height, width), self.sub(0).trunk
        (rows, columns), frames = trunk.feature_size(*size), num_chunks * interval
        places, seen = rows * columns, frames + sum(self._num_around)
        remembered = 0
        if self.references != "none":
            remembered = math.ceil(rows / self.memory_stride) * math.ceil(columns / self.memory_stride)
        kept = seen * places * (KEY_CHANNELS + trunk.value_channels)
        memories = seen * remembered * (2 * KEY_CHANNELS + trunk.value_channels)
        votes = {"none": 0, "keyframes": num_chunks, "all": frames}[self.ensemble] * places * len(self.classes)
        looking = trunk.bytes_per_pixel * size[0] * size[1]
        gathering = 4 * places * (KEY_CHANNELS + 4 * trunk.value_channels + 2 * remembered)
        return int(4 * (kept + memories + votes) + self.micro_batch * max(looking, gathering))

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Each sub-network over its frames, then all frames gather and are labeled, in micro-batches of one size.

        With shapes that never change, a frame's logits do not depend on how many of its neighbours are valid.
        """
        frames = FramesInBatch.of(chunks)
        if not frames.own:
            return
        turns = {index: self._turns_at(index, position) for index, (_, position) in frames.own.items()}
        polled = {index for index, at in turns.items() if len(at) > 1}
        size = self._batch_size(chunks)
        seen = self._look(frames, size)
        votes: dict[int, Tensor] = {}
        for turn in range(self.num_sub_networks):
            for batch in self._alike([index for index, at in turns.items() if turn in at], turn, seen, size):
                logits = self._label(batch, turn, seen, frames)
                scores = {index: one for (index, _), one in zip(batch.items, logits)}
                decided = _count_votes(scores, polled, votes, last=turn == self.num_sub_networks - 1)
                if decided:
                    yield frames.output(decided, align_corners=self.align_corners)

    def _turns_at(self, index: int, position: int) -> list[int]:
        """The sub-networks that label a frame."""
        if self.ensemble == "all" or (self.ensemble == "keyframes" and position == 0):
            return list(range(self.num_sub_networks))
        return [index % self.num_sub_networks]

    def _batch_size(self, chunks: ChunkBatch) -> int:
        """Frames that run at once, at most micro_batch; it follows from the shape of the ChunkBatch alone."""
        share = math.ceil((chunks.valid.numel() + sum(self._num_around)) / self.num_sub_networks)
        return math.ceil(share / math.ceil(share / self.micro_batch))

    def _look(self, frames: FramesInBatch, size: int) -> _Seen:
        """What each frame is remembered by, and what those to label ask and hold, at the sub-network whose turn it is.

        What the other sub-networks of an ensemble see is not kept: nobody else needs it, see `_ask`.
        """
        seen = _Seen(memories={}, asked={})
        for turn in range(self.num_sub_networks):
            sub = self.sub(turn)
            indices = [index for index in (*frames.own, *frames.context) if self._is_in_turn(index, turn)]
            for batch in even_batches(indices, size):
                feature = sub.trunk.extract(self.normalise(frames.images(batch.filled)))
                if self.references != "none":
                    memory = sub.remember(feature, stride=self.memory_stride)
                    seen.memories.update({index: memory.of(n) for n, index in enumerate(batch.items)})
                asked = zip(batch.items, sub.query(feature).split(1), sub.value(feature).split(1))
                seen.asked.update({index: (query, value) for index, query, value in asked if index in frames.own})
        return seen

    def _alike(self, indices: Sequence[int], turn: int, seen: _Seen, size: int) -> Iterator[Batch[_Asking]]:
        """Frames that one sub-network labels with their windows, in batches of which all have as many windows.

        Those whose turn it is, and the others, are in batches of their own.
        """
        asking = [
            (
                index,
                choose_windows(
                    index,
                    turn,
                    num_sub_networks=self.num_sub_networks,
                    references=self.references,
                    seen=seen.memories,
                ),
            )
            for index in indices
        ]
        for count in range(3):
            for in_turn in (True, False):
                part = [one for one in asking if len(one[1]) == count and self._is_in_turn(one[0], turn) == in_turn]
                yield from even_batches(part, size)

    def _label(self, batch: Batch[_Asking], turn: int, seen: _Seen, frames: FramesInBatch) -> Tensor:
        """Logits (n, C, h, w) float32 of the frames of a batch by one sub-network."""
        sub = self.sub(turn)
        query, value = self._ask(batch, turn, seen, frames)
        gathered = [
            sub.gather(query, [Memory.join([seen.memories[i] for i in indices]) for indices in zip(*side)])
            for side in zip(*(windows for _, windows in batch.filled))
        ]
        logits = sub.label(value, torch.stack(gathered).mean(0) if gathered else None)
        return logits[: len(batch.items)].float()

    def _ask(self, batch: Batch[_Asking], turn: int, seen: _Seen, frames: FramesInBatch) -> tuple[Tensor, Tensor]:
        """Query (n, 64, h, w) and value (n, D, h, w) of a batch: taken out of `seen`, or, out of turn, made now."""
        indices, sub = [index for index, _ in batch.filled], self.sub(turn)
        if not self._is_in_turn(indices[0], turn):
            feature = sub.trunk.extract(self.normalise(frames.images(indices)))
            return sub.query(feature), sub.value(feature)
        query, value = (torch.cat(maps) for maps in zip(*(seen.asked[index] for index in indices)))
        for index, _ in batch.items:
            del seen.asked[index]  # the largest maps there are
        return query, value

    def _is_in_turn(self, index: int, turn: int) -> bool:
        return index % self.num_sub_networks == turn


_Asking = tuple[int, list[Window]]  # a frame's index, and from which frames it gathers


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """By a frame's index. asked: query (1, 64, h, w) and value (1, D, h, w) of those that are still to be labeled."""

    memories: dict[int, Memory]
    asked: dict[int, tuple[Tensor, Tensor]]


def _count_votes(
    logits: Mapping[int, Tensor], polled: Container[int], votes: dict[int, Tensor], *, last: bool
) -> dict[int, Tensor]:
    """Logits (C, h, w) of the frames for which nothing more is to come, by index.

    polled: frames that all sub-networks label, and that wait for the last one. What comes out is the logarithm of the
    sum of their probabilities, which `votes` holds of those so far; logarithms all along, for a probability may be too
    small to be told from 0.
    """
    decided: dict[int, Tensor] = {}
    for index, scores in logits.items():
        if index in polled:
            scores = scores.log_softmax(0)
            scores = torch.logaddexp(votes.pop(index), scores) if index in votes else scores
        (votes if index in polled and not last else decided)[index] = scores
    return decided
