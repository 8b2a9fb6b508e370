from __future__ import annotations

import torch

from gsvnet.models.runs import Runs, Timeline, make_timeline, next_keyframe_index, whole_chunks
from gsvnet.models.segmenter import ChunkBatch


def chunks_of(valid: list[list[bool]], *, num_frames: list[int], **changes) -> ChunkBatch:
    places = torch.tensor(valid)
    settings = {
        "first_frame": 100,
        "num_frames": torch.tensor(num_frames),
        "keyframes": torch.zeros(len(valid), 3, 8, 8),
        "frames": torch.zeros(*places.shape, 3, 4, 4),
        "valid": places,
    }
    return ChunkBatch(**settings | changes)


def timeline_of(valid: list[list[bool]], index: list[list[int]] | None = None) -> Timeline:
    """With the keyframe behind at the last position."""
    places = torch.tensor(valid)
    return Timeline(
        frames=torch.zeros(*places.shape, 3, 4, 4),
        valid=places,
        index=torch.arange(places.shape[1]).expand(places.shape) if index is None else torch.tensor(index),
        has_next=True,
    )


def one_run(start: int, stop: int, *, followed: bool = True) -> Runs:
    return Runs(
        chunk=torch.tensor([0]),
        start=torch.tensor([start]),
        stop=torch.tensor([stop]),
        followed=torch.tensor([followed]),
    )


def test_neighbours_in_a_timeline_are_the_next_valid_ones():
    timeline = timeline_of([[True, False, True, False, False, True]])
    assert timeline.before.tolist() == [[0, 0, 0, 2, 2, 2]]
    assert timeline.behind.tolist() == [[2, 2, 5, 5, 5, 5]]


def test_without_next_frames_a_timeline_ends_with_the_chunk():
    timeline = make_timeline(chunks_of([[True] * 3], num_frames=[3]))
    assert (timeline.length, timeline.has_next, timeline.index.tolist()) == (3, False, [[100, 101, 102]])


def test_the_keyframe_behind_stands_behind_the_last_position_of_a_short_chunk_too():
    chunks = chunks_of(
        [[True, True, True], [True, True, False]],
        num_frames=[3, 2],
        next_frames=torch.ones(2, 3, 4, 4),
        next_valid=torch.tensor([True, False]),
    )
    timeline = make_timeline(chunks)
    assert timeline.length == 3
    assert timeline.index[:, -1].tolist() == [103, 105]
    assert timeline.valid[:, -1].tolist() == [True, False]
    assert timeline.frames[0, :, 0, 0, 0].tolist() == [0, 0, 0, 1]


def test_where_the_next_keyframe_is_said_to_be_it_is():
    chunks = chunks_of([[True] * 3], num_frames=[3], next_index=torch.tensor([110]))
    assert next_keyframe_index(chunks).tolist() == [110]


def test_every_chunk_is_a_run_that_its_next_keyframe_follows():
    runs = whole_chunks(timeline_of([[True] * 4, [True, True, False, False]]))
    assert (runs.chunk.tolist(), runs.start.tolist(), runs.stop.tolist()) == ([0, 1], [0, 0], [3, 3])
    assert (runs.followed.tolist(), runs.longest) == ([True, False], 3)


def test_no_position_lies_behind_a_runs_end():
    runs = one_run(2, 5)
    assert [runs.positions(offset).tolist() for offset in (0, 2, 3, 9)] == [[2], [4], [5], [5]]
    assert runs.stepped_to([1, 3, 7]) == [3, 5]


def test_inside_a_run_are_its_own_valid_frames():
    valid = torch.tensor([[True, True, True, False, True, True]])
    inside = [bool(one_run(1, 5).inside(offset, valid)) for offset in range(6)]
    assert inside == [True, True, False, True, False, False]


def test_nearness_goes_by_the_videos_own_counting():
    """Frames 12 and 13 are lost from the chunk: position 2 is frame 14, four of five frames on the way."""
    timeline = timeline_of([[True] * 4], index=[[10, 11, 14, 15]])
    shares = [float(one_run(0, 3).nearness(offset, timeline.index)) for offset in range(4)]
    assert torch.allclose(torch.tensor(shares), torch.tensor([0, 0.2, 0.8, 1]))


def test_where_no_keyframe_follows_none_is_near():
    timeline = timeline_of([[True] * 4])
    assert float(one_run(0, 3, followed=False).nearness(2, timeline.index)) == 0
