from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.chunks import Shard
from gsvnet.errors import ModelError
from gsvnet.labeling.batching import batch_chunks, views_by_need
from gsvnet.labeling.chunk_motion import ChunkMotion
from gsvnet.models.segmenter import FrameNeeds
from gsvnet.video.decode import Frame
from gsvnet.video.frames import View

NEEDS = FrameNeeds(keyframe_size=(4, 6), frame_size=(2, 3))
PER_FRAME = FrameNeeds(keyframe_size=(4, 6))


def shard(first_frame, num_frames, restarts=()):
    return Shard(
        video_id="v",
        index=0,
        first_frame=first_frame,
        num_frames=num_frames,
        start_pts=0,
        end_pts=None,
        restarts=restarts,
    )


def decode(where, needs, *, lost=(), damaged=(), interval=4, first=None, stop=None):
    """Frames of a shard as the decoder gives them: every pixel holds the frame's index."""
    views = views_by_need(where, interval=interval, needs=needs)
    first = where.first_frame if first is None else first
    for index in range(first, where.first_frame + where.num_frames if stop is None else stop):
        if index in lost:
            yield Frame(index=index, pts=index * 10, images=(), status="decode_error")
        else:
            images = tuple(np.full((v.height, v.width, 3), index, np.uint8) for v in views(index))
            yield Frame(index=index, pts=index * 10, images=images, status="damaged" if index in damaged else "ok")


def batches(where, needs, *, num_chunks=2, interval=4, **damage):
    frames = decode(where, needs, interval=interval, **damage)
    return list(batch_chunks(frames, shard=where, interval=interval, needs=needs, num_chunks=num_chunks))


def test_keyframes_are_rendered_large_and_on_the_grid_other_frames_on_the_grid_alone():
    views = views_by_need(shard(8, 8), interval=4, needs=NEEDS)
    large, small = View(4, 6, "area"), View(2, 3, "area")
    assert [tuple(views(i)) for i in range(8, 14)] == [(large, small), *[(small,)] * 3, (large, small), (small,)]


def test_networks_without_propagation_read_every_frame_at_one_size():
    views = views_by_need(shard(0, 8), interval=4, needs=PER_FRAME)
    assert [tuple(views(i)) for i in range(3)] == [(View(4, 6, "area"),)] * 3


def test_all_batches_have_the_same_shape_and_the_last_is_padded():
    found = [b.chunks for b in batches(shard(8, 11), NEEDS)]
    assert [tuple(c.frames.shape) for c in found] == [(2, 4, 3, 2, 3)] * 2
    assert [tuple(c.keyframes.shape) for c in found] == [(2, 3, 4, 6)] * 2
    assert [c.first_frame for c in found] == [8, 16]
    assert [c.num_frames.tolist() for c in found] == [[4, 4], [3, 0]]
    assert found[1].valid.tolist() == [[True, True, True, False], [False] * 4]


def test_every_frame_stands_at_its_place():
    for batch in batches(shard(8, 11), NEEDS):
        for place in batch.places:
            assert torch.all(batch.chunks.frames[place.chunk, place.position] == place.index)
            assert torch.all(batch.chunks.keyframes[place.chunk] == place.keyframe)
            assert (place.keyframe, place.position) == (place.index // 4 * 4, place.index % 4)
            assert place.pts == place.index * 10


def test_frames_are_numbered_as_in_the_video_also_where_some_were_lost():
    """Of chunks at 0 and 4, the second with another keyframe than planned, and of one that is followed by nothing."""
    needs = replace(NEEDS, next_keyframe=True)
    found = [b.chunks for b in batches(shard(0, 14), needs, lost=(1, 4, 6))]
    assert [c.index.tolist() for c in found] == [
        [[0, 2, 3, 0], [5, 7, 0, 0]],
        [[8, 9, 10, 11], [12, 13, 0, 0]],
    ]
    assert [c.next_index.tolist() for c in found] == [[0, 8], [12, 0]]
    assert batches(shard(0, 4), NEEDS)[0].chunks.next_index is None


def test_restarts_begin_a_chunk_out_of_turn():
    [batch] = batches(shard(0, 8, restarts=(3,)), NEEDS, num_chunks=4)
    assert [p.keyframe for p in batch.places] == [0, 0, 0, 3, 3, 3, 3, 7]
    assert batch.chunks.num_frames.tolist() == [3, 4, 1, 0]


def test_a_lost_keyframe_is_replaced_by_the_next_frame_of_its_chunk():
    [batch] = batches(shard(0, 8), NEEDS, lost={0, 1})
    assert [(p.index, p.keyframe, p.position) for p in batch.places[:4]] == [
        (0, 2, None),
        (1, 2, None),
        (2, 2, 0),
        (3, 2, 1),
    ]
    assert torch.all(batch.chunks.keyframes[0] == 2)
    assert batch.places[4].keyframe == 4  # the next chunk begins where it was planned


def test_a_lost_frame_in_between_closes_up_the_frames_behind_it():
    [batch] = batches(shard(0, 4), NEEDS, lost={1}, num_chunks=1)
    assert [p.position for p in batch.places] == [0, None, 1, 2]
    assert batch.chunks.frames[0, :, 0, 0, 0].tolist() == [0, 2, 3, 0]
    assert batch.chunks.valid.tolist() == [[True, True, True, False]]


def test_a_chunk_that_is_lost_whole_is_like_padding():
    [batch] = batches(shard(0, 8), NEEDS, lost=set(range(4)))
    assert batch.chunks.num_frames.tolist() == [0, 4]
    assert [p.position for p in batch.places] == [None] * 4 + [0, 1, 2, 3]
    assert torch.all(batch.chunks.keyframes[1] == 4)


def test_frames_past_the_planned_end_of_an_open_shard_go_on_in_turn():
    found = batches(shard(8, 4), NEEDS, stop=17)
    assert [p.keyframe for b in found for p in b.places] == [8] * 4 + [12] * 4 + [16]


def test_no_frames_are_no_batches():
    assert batches(shard(0, 4), NEEDS, stop=0) == []


def test_networks_without_propagation_see_all_frames_large():
    [batch] = batches(shard(0, 6), PER_FRAME)
    assert tuple(batch.chunks.frames.shape) == (2, 4, 3, 4, 6)
    assert batch.chunks.frames[1, :, 0, 0, 0].tolist() == [4, 5, 0, 0]
    assert torch.equal(batch.chunks.keyframes, batch.chunks.frames[:, 0])


def test_frames_resized_the_exact_way_stay_float():
    exact = FrameNeeds(keyframe_size=(4, 6), frame_size=(2, 3), resize="exact")
    [batch] = batches(shard(0, 4), exact, num_chunks=1)
    assert batch.chunks.frames.dtype == batch.chunks.keyframes.dtype == torch.float32


@pytest.mark.parametrize("need", [{"before": 3}, {"after": 1}], ids=str)
def test_frames_around_chunks_of_another_size_are_refused(need):
    with pytest.raises(ModelError, match=r"reads its own frames at \(2, 3\) and wants frames around its chunks at"):
        views_by_need(shard(0, 8), interval=4, needs=replace(NEEDS, **need))


# --- the keyframe after each chunk ---

TWO_SIDED = replace(NEEDS, next_keyframe=True)


def closed(first_frame, num_frames):
    """A shard with another one after it."""
    return replace(shard(first_frame, num_frames), end_pts=(first_frame + num_frames) * 10)


def values(keyframes):
    return keyframes[:, 0, 0, 0].tolist()


def test_the_keyframe_after_a_chunk_is_that_of_the_next_one_also_past_the_batch():
    found = batches(shard(0, 20), TWO_SIDED)
    assert [values(b.chunks.keyframes) for b in found] == [[0, 4, 8], [8, 12, 16], [16, 0, 0]]
    assert [b.chunks.next_valid.tolist() for b in found] == [[True, True], [True, True], [False, False]]
    assert [b.chunks.next_index.tolist() for b in found] == [[4, 8], [12, 16], [0, 0]]


def test_at_the_end_of_a_shard_it_is_the_next_shards_which_is_not_labeled_here():
    where = closed(8, 12)
    found = batches(where, TWO_SIDED, stop=24)
    assert [values(b.chunks.keyframes) for b in found] == [[8, 12, 16], [16, 20, 0]]
    assert found[1].chunks.next_valid.tolist() == [True, False]
    assert found[1].chunks.num_frames.tolist() == [4, 0]
    assert [p.index for b in found for p in b.places] == list(range(8, 20))


def test_frames_before_a_shard_are_neither_rendered_nor_labeled():
    where = closed(8, 4)
    assert [len(views_by_need(where, interval=4, needs=TWO_SIDED)(i)) for i in (6, 7, 8)] == [0, 0, 2]
    [batch] = batches(where, TWO_SIDED, first=5, stop=13)
    assert [p.index for p in batch.places] == [8, 9, 10, 11]


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_a_next_keyframe_that_was_lost_is_none_wherever_the_batches_end(num_chunks):
    found = batches(closed(0, 8), TWO_SIDED, num_chunks=num_chunks, lost={4, 8}, stop=9)
    marks = [mark for b in found for mark in b.chunks.next_valid.tolist()]
    assert marks[:2] == [False, False]
    assert [p.keyframe for b in found for p in b.places][4:] == [5] * 4  # its own chunk goes on without it


def test_a_chunk_that_is_lost_whole_has_no_next_keyframe():
    [batch] = batches(shard(0, 8), TWO_SIDED, lost=set(range(4)))
    assert batch.chunks.next_valid.tolist() == [False, False]


def test_networks_that_read_all_frames_large_get_the_next_keyframe_too():
    found = batches(shard(0, 12), replace(PER_FRAME, next_keyframe=True))
    assert [values(b.chunks.keyframes) for b in found] == [[0, 4, 8], [8, 0, 0]]


def test_more_frames_than_planned_are_labeled_and_end_without_a_next_keyframe():
    where = replace(closed(0, 4), end_pts=60)  # six frames, whatever the plan says
    [batch] = batches(where, TWO_SIDED, num_chunks=3, stop=7)
    assert [p.index for p in batch.places] == list(range(6))
    assert batch.chunks.next_valid.tolist() == [True, False, False]


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_no_keyframe_follows_a_chunk_before_a_cut(num_chunks):
    where = replace(closed(0, 10), restarts=(5, 10))
    for needs in (TWO_SIDED, DRIFTING):
        found = batches(where, needs, num_chunks=num_chunks, stop=11)
        marks = {p.keyframe: bool(b.chunks.next_valid[p.chunk]) for b in found for p in b.places}
        assert marks == {0: True, 4: False, 5: True, 9: False}


# --- that keyframe small, and all frames large ---

DRIFTING = replace(NEEDS, next_frame=True)


def test_the_keyframe_after_a_chunk_comes_small_where_it_is_asked_for():
    where = closed(8, 12)
    found = [b.chunks for b in batches(where, DRIFTING, stop=21)]
    assert [tuple(c.next_frames.shape) for c in found] == [(2, 3, 2, 3)] * 2
    assert [values(c.next_frames) for c in found] == [[12, 16], [20, 0]]
    assert [c.next_valid.tolist() for c in found] == [[True, True], [True, False]]
    assert [c.next_index.tolist() for c in found] == [[12, 16], [20, 0]]
    assert [values(c.keyframes) for c in found] == [[8, 12], [16, 0]]  # large it is not asked for
    assert batches(where, NEEDS)[0].chunks.next_frames is None


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 4])
def test_the_keyframe_after_a_shard_may_be_one_more_chunk(num_chunks):
    where = closed(8, 12)
    frames = decode(where, DRIFTING, stop=21)
    found = list(
        batch_chunks(frames, shard=where, interval=4, needs=DRIFTING, num_chunks=num_chunks, label_following=True)
    )
    assert [p.keyframe for b in found for p in b.places] == [8] * 4 + [12] * 4 + [16] * 4 + [20]
    counts = [n for b in found for n in b.chunks.num_frames.tolist()]
    assert counts[:4] == [4, 4, 4, 1]
    assert [mark for b in found for mark in b.chunks.next_valid.tolist()][:4] == [True, True, True, False]


@pytest.mark.parametrize(("restarts", "lost"), [((12,), ()), ((), (12,))], ids=["cut", "lost"])
def test_a_keyframe_after_a_shard_that_nothing_leads_to_is_no_chunk(restarts, lost):
    where = replace(closed(8, 4), restarts=restarts)
    frames = decode(where, DRIFTING, stop=13, lost=lost)
    found = batch_chunks(frames, shard=where, interval=4, needs=DRIFTING, num_chunks=2, label_following=True)
    assert [p.index for b in found for p in b.places] == [8, 9, 10, 11]


CHOOSING = replace(DRIFTING, every_keyframe=True)


def test_networks_that_choose_keyframes_see_every_frame_large_and_small():
    views = views_by_need(closed(8, 4), interval=4, needs=CHOOSING)
    assert [tuple(views(i)) for i in (8, 9)] == [(View(4, 6, "area"), View(2, 3, "area"))] * 2
    [batch] = batches(shard(8, 7), CHOOSING, lost=(9,))
    chunks = batch.chunks
    assert tuple(chunks.candidates.shape) == (2, 4, 3, 4, 6)
    assert torch.equal(chunks.candidates[:, :, 0, 0, 0], chunks.frames[:, :, 0, 0, 0])
    assert chunks.candidates[:, :, 0, 0, 0].tolist() == [[8, 10, 11, 0], [12, 13, 14, 0]]
    assert values(chunks.keyframes) == [8, 12]


def test_networks_that_choose_keyframes_read_the_others_at_another_size():
    with pytest.raises(ModelError, match=r"every frame at \(4, 6\) to choose keyframes"):
        views_by_need(shard(0, 8), interval=4, needs=replace(PER_FRAME, every_keyframe=True))


# --- frames around a batch ---

AROUND = replace(PER_FRAME, before=3, after=2)


def around(batch):
    """Indices before and after a batch; each frame's pixels hold its index."""
    chunks = batch.chunks
    sides = (chunks.before, chunks.before_index), (chunks.after, chunks.after_index)
    for pixels, index in sides:
        assert pixels.shape[1:] == (3, 4, 6)
        assert torch.equal(pixels.long(), index[:, None, None, None].expand(pixels.shape))
    return tuple(index.tolist() for _, index in sides)


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_batches_get_the_frames_around_them_wherever_they_are(num_chunks):
    """Of a shard of frames 8 to 23 of 26 frames, in chunks of four."""
    found = batches(closed(8, 16), AROUND, num_chunks=num_chunks, first=5, stop=26)
    assert [b.chunks.first_frame for b in found] == list(range(8, 24, 4 * num_chunks))
    for batch in found:
        first, last = batch.places[0].index, batch.places[-1].index
        assert around(batch) == ([first - 3, first - 2, first - 1], [last + 1, last + 2])
    assert [p.index for b in found for p in b.places] == list(range(8, 24))


def test_batches_shorter_than_what_they_look_at_get_it_from_many():
    found = batches(shard(0, 9), AROUND, num_chunks=1, interval=1)
    assert [around(b) for b in found[:2]] == [([], [1, 2]), ([0], [2, 3])]
    assert [around(b) for b in found[4:]] == [
        ([1, 2, 3], [5, 6]),
        ([2, 3, 4], [6, 7]),
        ([3, 4, 5], [7, 8]),
        ([4, 5, 6], [8]),
        ([5, 6, 7], []),
    ]


def test_lost_frames_around_a_batch_are_left_out_and_no_others_take_their_place():
    found = batches(closed(4, 8), AROUND, num_chunks=1, first=1, stop=14, lost={2, 4, 6, 7, 8, 12})
    assert [around(b) for b in found] == [([1, 3], [9]), ([5], [13])]
    assert [b.chunks.first_frame for b in found] == [4, 8]


def test_networks_that_look_at_nothing_around_get_nothing():
    [batch] = batches(closed(0, 4), PER_FRAME, num_chunks=1, stop=4)
    assert [getattr(batch.chunks, name) for name in ("before", "before_index", "after", "after_index")] == [None] * 4


def test_one_side_alone_is_none_on_the_other():
    [batch] = batches(closed(4, 4), replace(PER_FRAME, before=1), num_chunks=1, first=2, stop=9)
    assert (batch.chunks.before_index.tolist(), batch.chunks.after, batch.chunks.after_index) == ([3], None, None)


def test_frames_around_stand_beside_the_keyframe_after_each_chunk():
    found = batches(closed(8, 8), replace(AROUND, next_keyframe=True), num_chunks=1, first=5, stop=18)
    assert [around(b) for b in found] == [([5, 6, 7], [12, 13]), ([9, 10, 11], [16, 17])]
    assert [values(b.chunks.keyframes) for b in found] == [[8, 12], [12, 16]]
    assert [p.index for b in found for p in b.places] == list(range(8, 16))


def test_the_last_shard_stays_open_and_its_last_batch_has_nothing_after_it():
    found = batches(shard(8, 4), AROUND, num_chunks=1, first=5, stop=14)
    assert [around(b) for b in found] == [([5, 6, 7], [12, 13]), ([9, 10, 11], [])]
    assert [p.index for b in found for p in b.places] == list(range(8, 14))


def test_only_frames_within_reach_before_a_shard_are_rendered():
    views = views_by_need(closed(8, 4), interval=4, needs=AROUND)
    assert [len(views(i)) for i in range(3, 14)] == [0, 0, *[1] * 9]


def test_no_more_frames_are_held_than_a_batch_and_those_around_it():
    alive: list[weakref.ref] = []
    most = 0

    def watched():
        nonlocal most
        for frame in decode(shard(0, 80), AROUND):
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame
            del frame

    for _ in batch_chunks(watched(), shard=shard(0, 80), interval=4, needs=AROUND, num_chunks=2):
        pass
    assert most <= 8 + 3 + 2 + 1  # and the one that the decoder is at


# --- motion ---

MOVING = replace(TWO_SIDED, motion_grid=(1, 2))


def trace(frames, next_keyframe, needs):
    """In place of motion: from which frame it leads to which. Nothing leads to frame 8, as to an I-frame."""
    decoded = [frame.index for frame in frames if frame.status == "ok"]

    def lead(to, known):
        motion = np.array([[[[index] * 2], [[to] * 2]] for index in decoded], np.float32)
        return motion, np.full((len(decoded), 1, 2), known)

    motion, known = lead(decoded[0], True)
    if next_keyframe is None:
        return ChunkMotion(motion=motion, known=known)
    next_motion, next_known = lead(next_keyframe.index, next_keyframe.index != 8)
    return ChunkMotion(motion=motion, known=known, next_motion=next_motion, next_known=next_known)


def moving(where, *, num_chunks=2, **damage):
    frames = decode(where, MOVING, **damage)
    return list(batch_chunks(frames, shard=where, interval=4, needs=MOVING, num_chunks=num_chunks, trace=trace))


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_every_frame_has_motion_to_its_keyframe_and_to_the_next(num_chunks):
    for batch in moving(shard(0, 16), num_chunks=num_chunks):
        chunks = batch.chunks
        for place in batch.places:
            at = place.chunk, place.position
            assert chunks.motion[at][:, 0, 0].tolist() == [place.index, place.keyframe]
            assert chunks.motion_valid[at].all()
            if chunks.next_valid[place.chunk]:
                following = int(chunks.next_index[place.chunk])
                assert chunks.next_motion[at][:, 0, 0].tolist() == [place.index, following]


def test_motion_of_a_chunk_begins_with_the_frame_that_took_the_keyframes_place():
    [batch] = moving(shard(0, 8), lost={0, 2})
    assert batch.chunks.motion[0, :, :, 0, 0].tolist() == [[1, 1], [3, 1], [0, 0], [0, 0]]


def test_a_keyframe_to_which_no_motion_leads_is_as_good_as_none():
    first, second = moving(shard(0, 16))
    assert (first.chunks.next_valid.tolist(), second.chunks.next_valid.tolist()) == ([True, False], [True, False])
    assert first.chunks.next_index.tolist() == [4, 0]


def test_the_time_that_motion_takes_is_told():
    [batch] = moving(shard(0, 8))
    assert batch.tracing.wall > 0


def damaged_frames(needs, **arguments):
    where = shard(0, 12)
    return [place.index for batch in batches(where, needs, **arguments) for place in batch.places if place.damaged]


def test_damage_spreads_from_a_keyframe_and_on_the_way_to_the_next():
    assert damaged_frames(NEEDS, damaged=(4,)) == [4, 5, 6, 7]
    assert damaged_frames(NEEDS, damaged=(6,)) == [6, 7]


def test_damage_of_a_frame_is_its_own_where_nothing_is_propagated():
    assert damaged_frames(replace(PER_FRAME, basis="itself"), damaged=(5,)) == [5]


def test_damage_reaches_as_far_as_a_network_looks():
    needs = replace(PER_FRAME, basis="neighbours", before=3, after=1)
    assert damaged_frames(needs, damaged=(5,)) == [4, 5, 6, 7, 8]


def test_a_damaged_frame_takes_the_place_of_a_lost_keyframe():
    found = batches(shard(0, 8), NEEDS, lost=(0,), damaged=(1,))
    assert [place.keyframe for place in found[0].places] == [1] * 4 + [4] * 4


def test_a_damaged_keyframe_is_nobodys_next_one():
    found = batches(shard(0, 8), replace(NEEDS, next_frame=True), damaged=(4,))
    assert found[0].chunks.next_valid.tolist() == [False, False]
