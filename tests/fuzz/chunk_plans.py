"""From frames to chunks and shards: whatever the numbers, every frame is in one chunk of one shard, in order."""

from __future__ import annotations

from itertools import accumulate, pairwise

from gsvnet.chunks import Shard, chunk_starts, cut_shards, planned_keyframe, split_chunks, widen_shard
from gsvnet.store.committed import Committed
from gsvnet.store.layout import parse_label_path
from tests.fuzz.choices import Choices

_MOST = 2**40  # ticks and frames


def fuzz_one(data: bytes) -> None:
    """Cut a hostile video, and look at its shards."""
    choices = Choices(data)
    if choices.below(4) == 0:
        _check_names(choices)
        return
    pts = list(accumulate((1 + choices.below(8) for _ in range(choices.below(64))), initial=choices.integer() % _MOST))
    numbers = [choices.below(80) for _ in range(choices.below(12))]
    restarts = sorted({choices.pick((choices.integer(), choices.below(80))) for _ in range(choices.below(6))})
    shards = cut_shards(
        video_id="v",
        pts=pts,
        sync_frames=sorted(numbers),
        interval=1 + choices.below(20),
        max_ticks=1 + abs(choices.integer()) % _MOST,
        max_frames=1 + choices.below(40),
        restarts=restarts,
    )
    _check_cover(shards, pts)
    interval = 1 + choices.below(20)
    starts = chunk_starts(0, len(pts), interval, restarts)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    for shard in shards:
        _check_chunks(shard, interval)
        _check_wider(shard, pts, starts, restarts, choices.below(40))


def _check_cover(shards: list[Shard], pts: list[int]) -> None:
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert shards[0].first_frame == 0
    assert sum(shard.num_frames for shard in shards) == len(pts)
    for shard, following in pairwise(shards):
        assert shard.first_frame + shard.num_frames == following.first_frame
        assert shard.end_pts == following.start_pts == pts[following.first_frame]
    assert shards[-1].end_pts is None


def _check_chunks(shard: Shard, interval: int) -> None:
    chunks = split_chunks(shard, interval)
    assert all(1 <= chunk.num_frames <= interval for chunk in chunks)
    frames = [frame for chunk in chunks for frame in range(chunk.first_frame, chunk.first_frame + chunk.num_frames)]
    assert frames == list(range(shard.first_frame, shard.first_frame + shard.num_frames))
    for chunk in chunks:
        last = chunk.first_frame + chunk.num_frames - 1
        assert planned_keyframe(shard, last, interval) == chunk.first_frame


def _check_wider(shard: Shard, pts: list[int], starts: list[int], restarts: list[int], frames: int) -> None:
    wide = widen_shard(shard, frames=frames, pts=pts, starts=starts, restarts=restarts)
    stop = shard.first_frame + shard.num_frames
    assert wide.first_frame <= max(0, shard.first_frame - frames)
    assert wide.first_frame + wide.num_frames >= min(len(pts), stop + frames)


def _check_names(choices: Choices) -> None:
    """Sets of shards hold what was put in, and no name stands for another shard."""
    committed, expected = Committed(), set()
    for _ in range(choices.below(12)):
        index = choices.below(2000)
        name = choices.pick((f"{index:06d}", choices.text(), str(index), f"{index:07d}"))
        video = choices.pick(("a", "b"))
        committed.add(video, name)
        if name == f"{index:06d}":
            expected.add((video, name))
        place = parse_label_path(f"labels/{video}/{name}.parquet")
        assert place is None or f"{place[1]:06d}" == name
    assert expected <= set(committed)
    assert len(committed) == len(list(committed))
    assert all(shard in committed for shard in committed)
