"""From frame counts to work: Video, Shard, Chunk. Integer arithmetic only, no I/O.

Keyframes are planned for a whole video first; shards are then cut between chunks, so labels depend neither on
shard length nor on the number of actors.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

STRETCH_FRAMES = 24
"""Frames in which a network that chooses its keyframe interval places keyframes itself: a chunk, to everyone else."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """One container file, as planned.

    id: readable stem + 12 hex digits. uri: without credentials. identity: what the file was when planned
    (size plus version id, etag, mtime or a hash). height, width: pixels in display orientation (rotation applied).
    time_base: seconds per tick of every pts.
    """

    id: str
    uri: str
    identity: str
    height: int
    width: int
    rotation: int
    time_base: Fraction
    num_frames: int


def size_in_identity(identity: str) -> int | None:
    """Bytes of the file that an identity is of, with which it begins; None where it does not say."""
    size = identity.partition(":")[0]
    return int(size) if size.isdecimal() else None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One keyframe and the frames up to the next one: [first_frame, first_frame + num_frames)."""

    first_frame: int
    num_frames: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A run of whole chunks of one video: frames [first_frame, first_frame + num_frames).

    start_pts, end_pts: ticks, [start, end); end_pts None means to the end of the file (the last shard: headers lie).
    restarts: frame indices inside the shard, or directly behind it, at which a chunk starts out of turn (scene cuts),
    ascending.
    """

    video_id: str
    index: int
    first_frame: int
    num_frames: int
    start_pts: int
    end_pts: int | None
    restarts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """File stem of the shard's Parquet object."""
        return shard_name(self.index)


def shard_name(index: int) -> str:
    """File stem of the Parquet object of a video's shard `index`: at least six digits; longer names sort last."""
    return f"{index:06d}"


def chunk_starts(first_frame: int, num_frames: int, interval: int, restarts: Sequence[int] = ()) -> list[int]:
    """Keyframe indices in [first_frame, first_frame + num_frames): every `interval` frames, restarting at `restarts`.

    >>> chunk_starts(0, 10, 4, restarts=[5])
    [0, 4, 5, 9]
    """
    stop = first_frame + num_frames
    origins = sorted({first_frame, *(r for r in restarts if first_frame < r < stop)})
    return [f for origin, end in pairwise([*origins, stop]) for f in range(origin, end, interval)]


def planned_keyframe(shard: Shard, index: int, interval: int) -> int:
    """Index of the keyframe that was planned for frame `index`, also past the planned end of an open shard.

    >>> shard = Shard(video_id="v", index=0, first_frame=0, num_frames=10, start_pts=0, end_pts=None, restarts=(5,))
    >>> [planned_keyframe(shard, i, 4) for i in (3, 4, 5, 8, 9, 13)]
    [0, 4, 5, 5, 9, 13]
    """
    restart = bisect_right(shard.restarts, index)
    origin = shard.restarts[restart - 1] if restart else shard.first_frame
    return origin + (index - origin) // interval * interval


def split_chunks(shard: Shard, interval: int) -> list[Chunk]:
    """The chunks of a shard in order; the last one may be short."""
    starts = chunk_starts(shard.first_frame, shard.num_frames, interval, shard.restarts)
    stops = [*starts[1:], shard.first_frame + shard.num_frames]
    return [Chunk(first_frame=a, num_frames=b - a) for a, b in zip(starts, stops)]


def widen_shard(
    shard: Shard, *, frames: int, pts: Sequence[int], starts: Sequence[int], restarts: Sequence[int] = ()
) -> Shard:
    """The shard with as many whole chunks on either side as hold `frames` more frames, as far as the video has them.

    pts: of every frame of the video. starts: all its chunk starts; restarts: those out of turn.
    """
    borders = [*starts, len(pts)]
    first = borders[bisect_right(borders, max(0, shard.first_frame - frames)) - 1]
    stop = borders[bisect_left(borders, min(len(pts), shard.first_frame + shard.num_frames + frames))]
    return replace(
        shard,
        first_frame=first,
        num_frames=stop - first,
        start_pts=pts[first],
        end_pts=None if stop == len(pts) else pts[stop],
        restarts=tuple(r for r in restarts if first < r <= stop),
    )


def cut_shards(
    *,
    video_id: str,
    pts: Sequence[int],
    sync_frames: Sequence[int],
    interval: int,
    max_ticks: int,
    max_frames: int,
    restarts: Sequence[int] = (),
) -> list[Shard]:
    """Cut a video into shards of whole chunks.

    pts: of every frame in display order, strictly ascending ticks. sync_frames: frame indices of I-frames, ascending.
    A cut falls on the first chunk border at or after an I-frame, as late as `max_ticks` (pts) and `max_frames` allow;
    where no such border is in reach, on the last chunk border in reach. A shard has at least one chunk.
    """
    num_frames = len(pts)
    if num_frames == 0:
        return []
    starts = chunk_starts(0, num_frames, interval, restarts)
    borders = [*starts, num_frames]
    preferred = sorted({starts[i] for f in sync_frames if (i := bisect_left(starts, f)) < len(starts)})
    cuts = [0]
    while cuts[-1] < num_frames:
        start = cuts[-1]
        in_time = num_frames if pts[-1] - pts[start] < max_ticks else bisect_left(pts, pts[start] + max_ticks)
        reach = min(in_time, start + max_frames)
        if reach >= num_frames:
            cuts.append(num_frames)
            continue
        wished = preferred[bisect_right(preferred, reach) - 1] if preferred and preferred[0] <= reach else 0
        last = borders[bisect_right(borders, reach) - 1]
        following = borders[bisect_right(borders, start)]
        cuts.append(wished if wished > start else max(last, following))
    return [
        Shard(
            video_id=video_id,
            index=i,
            first_frame=a,
            num_frames=b - a,
            start_pts=pts[a],
            end_pts=None if b == num_frames else pts[b],
            restarts=tuple(r for r in restarts if a < r <= b),
        )
        for i, (a, b) in enumerate(pairwise(cuts))
    ]
