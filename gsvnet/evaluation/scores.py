"""What an evaluation counts: at every distance from the keyframe, or, where there are none, by whose turn a frame is.

Both plan the chunks that have to be labeled, and compare what came out with the truth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

from gsvnet.chunks import Chunk
from gsvnet.evaluation.clip import ClipLabeler, enlarge_batch
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.dataset import Clip, ScoredClips
from gsvnet.models.segmenter import FrameNeeds, VideoSegmenter
from gsvnet.models.tdnet import TDNet


class DistanceScores:
    """Every scored frame at every distance from the keyframe, and the same where the keyframe's labels are kept."""

    turns = None

    def __init__(self, data: ScoredClips, needs: FrameNeeds, batch_chunks: int) -> None:
        self.interval, self.batch_chunks, self.needs = data.keyframe_interval, batch_chunks, needs
        self.kept_frames = batch_chunks + self.interval
        self.distances, held = (
            tuple(ConfusionMatrix(len(data.classes)) for _ in range(self.interval)) for _ in range(2)
        )
        self._held = held
        self.held = held if data.is_propagated else None
        self.notes: list[str] = []

    def first_index(self, number: int) -> int:
        """Where in its video the clip of this number begins."""
        return 0

    def plan(self, clip: Clip) -> list[Chunk]:
        """The chunks to label."""
        chunks = plan_chunks(clip.scored, self.interval)
        return chain_chunks(chunks, self.interval) if self.needs.next_keyframe else chunks

    def count(self, labeler: ClipLabeler, chunks: Sequence[Chunk]) -> None:
        """Count the labels of the scored frames of a batch, and those that holding the keyframe's labels would give."""
        scored = list(_scored_places(labeler.clip, chunks))
        keyframes = {(row, 0) for row, _, _ in scored}
        labels = labeler.label(chunks, {(row, distance) for row, distance, _ in scored} | keyframes)
        for row, distance, frame in scored:
            truth = labeler.truth(frame)
            self.distances[distance].update(truth, labels[row, distance])
            self._held[distance].update(truth, labels[row, 0])


class TurnScores:
    """Every scored frame once; of TDNet by the sub-network whose turn it is.

    The n-th clip begins with sub-network n (mod N): of sparse labels, which all are at the same place of their clips,
    each sub-network then sees as many. Chunks are single frames, unless keyframes are labeled in another way; those are
    then every interval-th frame from the first one on.
    """

    held = None

    def __init__(self, segmenter: VideoSegmenter, data: ScoredClips, needs: FrameNeeds, batch_chunks: int) -> None:
        self.needs = needs
        self.interval = data.keyframe_interval if minds_keyframes(segmenter, needs) else 1
        self.batch_chunks = enlarge_batch(needs, self.interval, batch_chunks)
        self.kept_frames = self.batch_chunks * self.interval + needs.before + needs.after
        count = segmenter.num_sub_networks if isinstance(segmenter, TDNet) else 1
        self._turns = tuple(ConfusionMatrix(len(data.classes)) for _ in range(count))
        self.turns = self._turns if count > 1 else None
        self.notes = _describe_turns(data, needs, self.interval)

    @property
    def distances(self) -> tuple[ConfusionMatrix, ...]:
        """One matrix, over all frames."""
        return (reduce(add, self._turns),)

    def first_index(self, number: int) -> int:
        """Where in its video the clip of this number begins."""
        return number

    def plan(self, clip: Clip) -> list[Chunk]:
        """The chunks to label: those that hold a scored frame."""
        starts = sorted({frame // self.interval * self.interval for frame in clip.scored})
        return [Chunk(first_frame=s, num_frames=min(self.interval, len(clip.frames) - s)) for s in starts]

    def count(self, labeler: ClipLabeler, chunks: Sequence[Chunk]) -> None:
        """Count the labels of the scored frames of a batch."""
        scored = list(_scored_places(labeler.clip, chunks))
        labels = labeler.label(chunks, {(row, position) for row, position, _ in scored})
        for row, position, frame in scored:
            turn = (labeler.first_index + frame) % len(self._turns)
            self._turns[turn].update(labeler.truth(frame), labels[row, position])


def start_scores(
    segmenter: VideoSegmenter, data: ScoredClips, needs: FrameNeeds, batch_chunks: int
) -> DistanceScores | TurnScores:
    """Empty scores of the kind that fits the network."""
    if needs.basis == "neighbours":
        return TurnScores(segmenter, data, needs, batch_chunks)
    return DistanceScores(data, needs, batch_chunks)


def minds_keyframes(segmenter: VideoSegmenter, needs: FrameNeeds) -> bool:
    """Whether a frame's labels depend on which frames are keyframes."""
    if isinstance(segmenter, TDNet):
        return segmenter.ensemble == "keyframes"
    return needs.basis == "keyframe"


def plan_chunks(scored: Sequence[int], interval: int) -> list[Chunk]:
    """Chunks that reach every scored frame (ascending indices) once at every distance 0..interval-1.

    A chunk starts only where a scored frame needs it and ends with the last scored frame in its reach.

    >>> [(chunk.first_frame, chunk.num_frames) for chunk in plan_chunks([7], 3)]
    [(5, 3), (6, 2), (7, 1)]
    """
    starts = sorted({frame - distance for frame in scored for distance in range(interval)})
    return [Chunk(first_frame=s, num_frames=scored[bisect_left(scored, s + interval) - 1] - s + 1) for s in starts]


def chain_chunks(chunks: Sequence[Chunk], interval: int) -> list[Chunk]:
    """The same chunks for networks that read the next keyframe: whole, and each before the one that follows it.

    >>> [(chunk.first_frame, chunk.num_frames) for chunk in chain_chunks(plan_chunks([1, 2, 3], 2), 2)]
    [(0, 2), (2, 2), (1, 2), (3, 2)]
    """
    starts = sorted((chunk.first_frame % interval, chunk.first_frame) for chunk in chunks)
    return [Chunk(first_frame=start, num_frames=interval) for _, start in starts]


def _scored_places(clip: Clip, chunks: Sequence[Chunk]) -> Iterator[tuple[int, int, int]]:
    """(chunk, distance, frame index) of the scored frames."""
    scored = frozenset(clip.scored)
    for row, chunk in enumerate(chunks):
        for distance in range(chunk.num_frames):
            if chunk.first_frame + distance in scored:
                yield row, distance, chunk.first_frame + distance


def _describe_turns(data: ScoredClips, needs: FrameNeeds, interval: int) -> list[str]:
    """What is to be known of scores by turn."""
    notes = []
    if interval > 1:
        notes.append(f"every {interval}th frame of a clip, from its first one on, is a keyframe")
    elif data.is_propagated:
        notes.append(
            f"the model has no keyframes; keyframe interval {data.keyframe_interval} says only which frames are "
            "scored: those that other models are scored on at it"
        )
    lacking = sum(_lacks_frames(clip, frame, needs) for clip in data.clips for frame in clip.scored)
    if lacking:
        wanted = {"before": needs.before, "after": needs.after}
        sides = " and ".join(f"{count} {side}" for side, count in wanted.items() if count)
        notes.append(f"{lacking} of {data.num_scored} scored frames lack frames to look at, of {sides} them")
    return notes


def _lacks_frames(clip: Clip, frame: int, needs: FrameNeeds) -> bool:
    if clip.stills:
        return bool(needs.before or needs.after)
    return frame < needs.before or frame + needs.after >= len(clip.frames)
