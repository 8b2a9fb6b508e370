from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gsvnet.labeling.parts import take_chunks
from gsvnet.models.segmenter import ChunkBatch, frame_index

LENGTH = 3


def draw(num_chunks):
    """Chunks of frames 100, 101, ... whose pixels hold how many frames they are after frame 100."""
    index = torch.arange(num_chunks * LENGTH).view(num_chunks, LENGTH)
    frames = index.to(torch.uint8)[:, :, None, None, None].expand(num_chunks, LENGTH, 3, 4, 6).contiguous()
    return ChunkBatch(
        first_frame=100,
        num_frames=torch.full((num_chunks,), LENGTH),
        keyframes=frames[:, 0],
        frames=frames,
        valid=torch.ones(num_chunks, LENGTH, dtype=torch.bool),
    )


def two_sided(num_chunks):
    """As `draw`, with the keyframe after each chunk and motion: of chunk c, c everywhere."""
    motion = torch.arange(num_chunks).float().view(-1, 1, 1, 1, 1).expand(num_chunks, LENGTH, 2, 1, 1)
    known = torch.ones(num_chunks, LENGTH, 1, 1, dtype=torch.bool)
    return replace(
        draw(num_chunks),
        keyframes=draw(num_chunks + 1).keyframes,
        next_valid=torch.arange(num_chunks) % 2 == 0,
        motion=motion,
        motion_valid=known,
        next_motion=motion + 10,
        next_motion_valid=known,
    )


def test_a_part_of_a_batch_shares_its_memory_and_knows_its_first_frame():
    whole = draw(4)
    part = take_chunks(whole, 1, 3)
    assert (part.first_frame, part.valid.shape) == (103, (2, LENGTH))
    assert part.keyframes.data_ptr() == whole.keyframes[1].data_ptr()
    assert take_chunks(whole, 0, 4) is whole


def test_a_part_keeps_the_keyframe_after_it_and_its_own_motion():
    part = take_chunks(two_sided(4), 1, 3)
    assert part.keyframes[:, 0, 0, 0].tolist() == [3, 6, 9]
    assert part.next_valid.tolist() == [False, True]
    assert part.motion[:, 0, 0, 0, 0].tolist() == [1, 2]
    assert part.next_motion[:, 0, 0, 0, 0].tolist() == [11, 12]
    assert part.motion_valid.shape == part.next_motion_valid.shape == (2, LENGTH, 1, 1)


def test_a_part_keeps_its_next_keyframes_and_its_candidates():
    whole = two_sided(4)
    whole = replace(whole, next_frames=whole.keyframes[1:], candidates=whole.frames)
    part = take_chunks(whole, 1, 3)
    assert part.next_frames[:, 0, 0, 0].tolist() == [6, 9]
    assert torch.equal(part.candidates, whole.frames[1:3])


# --- context ---


def with_context(chunks, *, numbered=True):
    """Frames 96 to 99 before, one of them lost, and the two after; in their pixels their index less 100, modulo 256."""
    stop = 100 + LENGTH * len(chunks.valid)
    before, after = [96, 97, 99] if numbered else [97, 98, 99], [stop, stop + 1]
    pixels = [
        torch.tensor([i - 100 for i in side]).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 6)
        for side in (before, after)
    ]
    return replace(
        chunks,
        before=pixels[0],
        before_index=torch.tensor(before) if numbered else None,
        after=pixels[1],
        after_index=torch.tensor(after) if numbered else None,
    )


def around(part):
    """Indices before and after a part, which are those that the pixels say."""
    for pixels, index in ((part.before, part.before_index), (part.after, part.after_index)):
        assert torch.equal(pixels, (index - 100).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 6))
    return part.before_index.tolist(), part.after_index.tolist()


@pytest.mark.parametrize(
    ("start", "stop", "before", "after"),
    [
        (0, 1, [96, 97, 99], [103, 104]),
        (1, 2, [99, 100, 101, 102], [106, 107]),
        (2, 4, [102, 103, 104, 105], [112, 113]),
        (3, 4, [105, 106, 107, 108], [112, 113]),
    ],
)
def test_a_part_looks_at_the_chunks_beside_it_and_at_the_batchs_own_context(start, stop, before, after):
    part = take_chunks(with_context(draw(4)), start, stop, before=4, after=2)
    assert around(part) == (before, after)
    assert part.before.movedim(1, -1).is_contiguous()  # as decoded frames lie in memory


def test_context_without_numbers_has_no_gaps():
    assert around(take_chunks(with_context(draw(2), numbered=False), 0, 1, before=4, after=4)) == (
        [97, 98, 99],
        [103, 104, 105, 106],
    )
    assert around(take_chunks(with_context(draw(2), numbered=False), 1, 2, before=4, after=4))[1] == [106, 107]


def test_distance_is_that_of_the_video_where_frames_were_lost():
    """Frames close up in their chunk, and of the second chunk all but its last frame were lost: 105."""
    index = torch.tensor([[100, 102, 0], [105, 0, 0], [106, 107, 108]])
    valid = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
    chunks = replace(draw(3), index=index, valid=valid, num_frames=valid.sum(1), frames=None)
    frames = (index - 100).to(torch.uint8)[:, :, None, None, None].expand(3, LENGTH, 3, 4, 6)
    chunks = with_context(replace(chunks, frames=frames))
    assert around(take_chunks(chunks, 0, 1, before=4, after=2)) == ([96, 97, 99], [])
    assert around(take_chunks(chunks, 1, 2, before=4, after=2)) == ([102], [106, 107])
    assert around(take_chunks(chunks, 2, 3, before=4, after=2)) == ([102, 105], [109, 110])
    assert [take_chunks(chunks, c, c + 1).first_frame for c in range(3)] == [100, 105, 106]


def test_a_part_that_has_no_frame_looks_at_none():
    chunks = with_context(draw(2))
    chunks.valid[1] = False
    assert around(take_chunks(chunks, 1, 2, before=4, after=2)) == ([], [])


def test_of_batches_without_small_frames_the_keyframes_are_the_frames():
    alone = replace(draw(4), frames=None, valid=torch.ones(4, 1, dtype=torch.bool), num_frames=torch.ones(4).long())
    part = take_chunks(alone, 2, 3, before=1, after=1)
    assert (part.before[:, 0, 0, 0].tolist(), part.after[:, 0, 0, 0].tolist()) == ([3], [9])
    assert frame_index(part).tolist() == [[102]]


def test_parts_of_a_batch_for_a_network_that_looks_at_nothing_else_hold_nothing_else():
    part = take_chunks(draw(4), 1, 3)
    assert [getattr(part, name) for name in ("before", "before_index", "after", "after_index")] == [None] * 4


def test_what_is_not_valid_is_no_context_at_the_start_of_a_video():
    """Frames 0 to 4 and one empty place: nothing is before the first part."""
    valid = torch.tensor([[True, True, True], [True, True, False]])
    whole = replace(draw(2), first_frame=0, num_frames=valid.sum(1), valid=valid)
    whole = replace(whole, before=whole.keyframes[:0], after=whole.keyframes[:0])
    assert take_chunks(whole, 0, 1, before=3, after=2).before_index.tolist() == []
    assert take_chunks(whole, 1, 2, before=3, after=2).before_index.tolist() == [0, 1, 2]
