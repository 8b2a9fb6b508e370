"""Decoded frames cut into stretches: those of one batch of chunks, and those around it that a network looks at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from gsvnet.chunks import Shard, planned_keyframe
from gsvnet.video.decode import Frame


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The frames of one batch, chunk by chunk, and those around it; lost ones too, all in display order.

    before, after: those directly before its first frame and directly behind its last one, as far as they are there.
    following: the frame that was planned as the keyframe after its last chunk, where it is read.
    """

    chunks: list[list[Frame]]
    before: tuple[Frame, ...]
    after: tuple[Frame, ...]
    following: Frame | None


def cut_stretches(
    frames: Iterable[Frame],
    *,
    shard: Shard,
    interval: int,
    num_chunks: int,
    before: int,
    after: int,
    label_following: bool = False,
) -> Iterator[Stretch]:
    """Stretches of `num_chunks` chunks, the last one of fewer, with `before` and `after` frames on either side.

    frames: of the shard, and those around it. No more of them are held than one stretch and what is around it.
    label_following: the keyframe that follows the shard is one more chunk, unless it was lost or a chunk starts there
    out of turn.
    """
    stop = shard.first_frame + shard.num_frames
    ahead = max(after, 1)  # the next chunk's first frame is waited for in any case
    passed: deque[Frame] = deque(maxlen=before)
    chunks: list[list[Frame]] = []
    behind: list[Frame] = []  # the shard
    current: int | None = None

    def cut() -> Stretch:
        own = chunks[:num_chunks]
        del chunks[:num_chunks]
        coming = [*chain.from_iterable(chunks), *behind]
        is_planned = bool(coming) and (bool(chunks) or coming[0].index == stop)
        stretch = Stretch(
            chunks=own,
            before=tuple(passed),
            after=tuple(coming[:after]),
            following=coming[0] if is_planned else None,
        )
        passed.extend(chain.from_iterable(own))
        return stretch

    for frame in frames:
        if frame.index < shard.first_frame:
            passed.append(frame)
        elif shard.end_pts is not None and frame.pts >= shard.end_pts:
            behind.append(frame)
            if len(behind) == ahead:
                break
        else:
            chunk = planned_keyframe(shard, frame.index, interval)
            if chunk != current:
                chunks.append([])
                current = chunk
            chunks[-1].append(frame)
            if sum(map(len, chunks[num_chunks:])) == ahead:
                yield cut()
    if label_following and behind and behind[0].index == stop and _may_be_compared(behind[0], shard):
        chunks.append([behind.pop(0)])
    while chunks:
        yield cut()


def _may_be_compared(frame: Frame, shard: Shard) -> bool:
    return frame.status == "ok" and frame.index not in shard.restarts
