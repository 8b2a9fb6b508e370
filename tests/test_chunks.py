from __future__ import annotations

import doctest
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

import gsvnet.chunks
from gsvnet.chunks import Chunk, Shard, chunk_starts, cut_shards, planned_keyframe, shard_name, split_chunks


@st.composite
def videos(draw):
    """pts, I-frames, restarts and interval of a video."""
    steps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=200))
    pts = [sum(steps[:i]) for i in range(len(steps))]
    frames = st.integers(0, len(pts) - 1)
    sync_frames = sorted(draw(st.sets(frames, max_size=20)))
    restarts = sorted(draw(st.sets(frames, max_size=5)))
    return {"pts": pts, "sync_frames": sync_frames, "restarts": restarts, "interval": draw(st.integers(1, 12))}


limits = st.fixed_dictionaries({"max_ticks": st.integers(1, 2000), "max_frames": st.integers(1, 250)})


@given(videos(), limits)
def test_shards_cover_every_frame_exactly_once_in_order(video, limit):
    shards = cut_shards(video_id="v", **video, **limit)
    frames = [f for s in shards for f in range(s.first_frame, s.first_frame + s.num_frames)]
    assert frames == list(range(len(video["pts"])))
    assert [s.index for s in shards] == list(range(len(shards)))
    assert all(s.num_frames > 0 for s in shards)


@given(videos(), limits)
def test_chunks_do_not_depend_on_how_shards_are_cut(video, limit):
    shards = cut_shards(video_id="v", **video, **limit)
    chunks = [chunk for shard in shards for chunk in split_chunks(shard, video["interval"])]
    starts = chunk_starts(0, len(video["pts"]), video["interval"], video["restarts"])
    assert [chunk.first_frame for chunk in chunks] == starts
    assert [c.first_frame + c.num_frames for c in chunks] == [*starts[1:], len(video["pts"])]


@given(videos(), limits)
def test_a_shard_is_longer_than_its_limits_only_if_it_is_one_chunk(video, limit):
    pts = video["pts"]
    for shard in cut_shards(video_id="v", **video, **limit):
        last = shard.first_frame + shard.num_frames - 1
        too_long = pts[last] - pts[shard.first_frame] >= limit["max_ticks"] or shard.num_frames > limit["max_frames"]
        assert not too_long or len(split_chunks(shard, video["interval"])) == 1


@given(videos(), limits)
def test_shards_meet_in_time_and_only_the_last_is_open(video, limit):
    shards = cut_shards(video_id="v", **video, **limit)
    assert [s.start_pts for s in shards] == [video["pts"][s.first_frame] for s in shards]
    assert [s.end_pts for s in shards] == [*(s.start_pts for s in shards[1:]), None]


@given(videos(), limits)
def test_a_shard_reaches_as_far_as_it_may(video, limit):
    """Joining a shard's first chunk to the shard before would break a limit, or pass over an I-frame border."""
    pts, shards = video["pts"], cut_shards(video_id="v", **video, **limit)
    starts = chunk_starts(0, len(pts), video["interval"], video["restarts"])
    preferred = {min((s for s in starts if s >= f), default=None) for f in video["sync_frames"]}
    for shard, following in pairwise(shards):
        more = split_chunks(following, video["interval"])[0]
        stop = more.first_frame + more.num_frames
        fits = (
            stop - shard.first_frame <= limit["max_frames"]
            and pts[stop - 1] - pts[shard.first_frame] < (limit["max_ticks"])
        )
        assert not fits or following.first_frame in preferred


@given(videos(), limits, st.data())
def test_the_planned_keyframe_of_a_frame_is_the_start_of_its_chunk(video, limit, data):
    shard = data.draw(st.sampled_from(cut_shards(video_id="v", **video, **limit)))
    for chunk in split_chunks(shard, video["interval"]):
        for index in range(chunk.first_frame, chunk.first_frame + chunk.num_frames):
            assert planned_keyframe(shard, index, video["interval"]) == chunk.first_frame


def cut(sync_frames, max_frames, **options):
    usual = {"video_id": "v", "pts": range(0, 1000, 10), "interval": 5, "max_ticks": 10**9}
    return [s.first_frame for s in cut_shards(sync_frames=sync_frames, max_frames=max_frames, **usual | options)]


def test_cuts_fall_on_the_first_chunk_border_at_or_after_an_i_frame():
    assert cut([0, 12, 24, 36, 48, 60, 72, 84, 96], 30) == [0, 25, 50, 75]


def test_a_video_with_one_i_frame_is_cut_all_the_same():
    assert cut([0], 30) == [0, 30, 60, 90]


def test_time_limits_count_in_ticks():
    assert cut([0], 100, max_ticks=400) == [0, 40, 80]


def test_a_chunk_longer_than_the_limit_is_a_shard_of_its_own():
    assert cut([0], 3, interval=40) == [0, 40, 80]


def test_no_frames_are_no_shards():
    assert cut([], 10, pts=[]) == []


def test_the_last_chunk_may_be_short():
    shard = Shard(video_id="v", index=0, first_frame=10, num_frames=7, start_pts=0, end_pts=None)
    assert split_chunks(shard, 5) == [Chunk(first_frame=10, num_frames=5), Chunk(first_frame=15, num_frames=2)]


def test_shard_names_sort_like_their_numbers():
    assert [shard_name(n) for n in (0, 42, 999_999)] == ["000000", "000042", "999999"]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(gsvnet.chunks).failed == 0
