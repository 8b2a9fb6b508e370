"""What a clip of images gives to networks that read motion and the next keyframe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.chunks import Chunk
from gsvnet.classes import CAMVID
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import ClipLabeler, label_frames
from gsvnet.evaluation.clip_motion import stack_traced, trace_images
from gsvnet.evaluation.dataset import Clip
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch
from gsvnet.video.motion import FrameMotion


class Sees(torch.nn.Module):
    """Labels everything alike and keeps the batches that it was given."""

    def __init__(self, **needs) -> None:
        super().__init__()
        self.more_needs, self.classes = needs, CAMVID
        self.batches: list[ChunkBatch] = []

    def needs(self, height: int, width: int) -> FrameNeeds:
        return FrameNeeds(keyframe_size=(height, width), **self.more_needs)

    def segment(self, chunks: ChunkBatch):
        self.batches.append(chunks)
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        yield LogitsBatch(chunk=chunk, position=position, logits=torch.zeros(len(chunk), 11, 2, 2))


@pytest.fixture
def numbered(tmp_path, write_camvid) -> Clip:
    """Eight images whose blue channel is their number."""
    root = write_camvid(tmp_path / "clip", np.zeros((8, 6, 8), int))
    return open_camvid(root, "val", keyframe_interval=1).clips[0]


def numbers(images: torch.Tensor) -> list:
    return images[..., 2, 0, 0].tolist()


def whole(*starts: int, interval: int) -> list[Chunk]:
    return [Chunk(first_frame=start, num_frames=interval) for start in starts]


def test_the_next_keyframe_is_an_interval_behind(numbered):
    network = Sees(next_keyframe=True)
    ClipLabeler(numbered, network, interval=3).label(whole(1, 4, interval=3))
    (batch,) = network.batches
    assert numbers(batch.keyframes) == [1, 4, 7]
    assert numbers(batch.frames) == [[1, 2, 3], [4, 5, 6]]
    assert batch.next_valid.tolist() == [True, True]


def test_behind_the_last_chunk_there_is_no_keyframe(numbered):
    network = Sees(next_keyframe=True)
    list(label_frames(numbered, network, interval=3, batch_chunks=2))
    assert [batch.next_valid.tolist() for batch in network.batches] == [[True, True], [False]]
    assert [numbers(batch.keyframes) for batch in network.batches] == [[0, 3, 6], [6, 6]]
    assert network.batches[1].num_frames.tolist() == [2]


def test_chunks_that_do_not_follow_each_other_are_no_batch(numbered):
    network = Sees(next_keyframe=True)
    labels = ClipLabeler(numbered, network, interval=2).label(whole(0, 1, 3, interval=2), {(0, 1), (2, 0)})
    assert [numbers(batch.keyframes) for batch in network.batches] == [[0, 2], [1, 3, 5]]
    assert set(labels) == {(0, 1), (2, 0)}


def test_without_need_of_it_the_next_keyframe_is_not_there(numbered):
    network = Sees()
    ClipLabeler(numbered, network, interval=3).label(whole(0, 1, interval=3))
    (batch,) = network.batches
    assert (len(batch.keyframes), batch.next_valid, batch.motion) == (2, None, None)


def test_motion_by_an_encoder_leads_to_both_keyframes(moving_clip):
    network = Sees(motion_grid=(8, 12), next_keyframe=True)
    labeler = ClipLabeler(moving_clip, network, interval=4)
    assert labeler.motion_source == "proxy"
    labeler.label(whole(1, 5, interval=4))
    (batch,) = network.batches
    inner = (slice(None), slice(None), slice(None), slice(2, 6), slice(3, 9))
    for motion, pixels in ((batch.motion, [0, 2, 4, 6]), (batch.next_motion, [-8, -6, -4, -2])):
        middle = 8 * motion[inner].flatten(-2).median(-1).values  # of cells of 8 pixels
        expected = torch.tensor(pixels).float().expand(2, 4)
        torch.testing.assert_close(middle[:, :, 0], expected, atol=0.5, rtol=0)
        torch.testing.assert_close(middle[:, :, 1], torch.zeros(2, 4), atol=0.5, rtol=0)
    assert batch.motion_valid[:, :, 2:6, 3:9].float().mean() > 0.9
    assert batch.next_motion_valid[:, :, 2:6, 3:9].float().mean() > 0.9


def test_motion_is_found_in_the_images_that_the_network_reads(moving_clip):
    network = Sees(motion_grid=(8, 12), frame_size=(32, 48))
    ClipLabeler(moving_clip, network, interval=3).label(whole(2, interval=3))
    (batch,) = network.batches
    motion, known = trace_images(list(batch.frames[0]), (8, 12))
    assert batch.frames.shape == (1, 3, 3, 32, 48)
    np.testing.assert_array_equal(batch.motion[0], motion)
    np.testing.assert_array_equal(batch.motion_valid[0], known)


def test_motion_of_a_chunk_does_not_depend_on_its_neighbours(moving_clip):
    network = Sees(motion_grid=(8, 12))
    labeler = ClipLabeler(moving_clip, network, interval=4)
    labeler.label([*whole(0, interval=4), Chunk(first_frame=6, num_frames=2)])
    labeler.label([Chunk(first_frame=6, num_frames=2)])
    together, alone = network.batches
    assert torch.equal(together.motion[1, :2], alone.motion[0])
    assert not together.motion_valid[1, 2:].any()


def test_a_chunk_cut_short_has_the_motion_of_the_whole_one(moving_clip):
    images = [torch.from_numpy(frame.read_image()).permute(2, 0, 1) for frame in moving_clip.frames[:6]]
    (motion, known), (cut, cut_known) = trace_images(images, (8, 12)), trace_images(images[:3], (8, 12))
    np.testing.assert_array_equal(cut, motion[:3])
    np.testing.assert_array_equal(cut_known, known[:3])


def test_float_images_are_rounded_for_the_encoder(moving_clip):
    images = [torch.from_numpy(frame.read_image()).permute(2, 0, 1) for frame in moving_clip.frames[:3]]
    (motion, _), (rounded, _) = trace_images(images, (8, 12)), trace_images([i.float() + 0.3 for i in images], (8, 12))
    np.testing.assert_array_equal(motion, rounded)


def test_a_video_of_the_clip_gives_its_codecs_motion_both_ways(moving_clip):
    steps = tuple(
        FrameMotion(
            index=index,
            pts=index,
            vector=np.tile(np.float32([[[8.0]], [[0.0]]]), (1, 8, 12)),
            distance=np.ones((8, 12), np.int8),
            height=64,
            width=96,
        )
        for index in range(10)
    )
    network = Sees(motion_grid=(8, 12), next_keyframe=True)
    labeler = ClipLabeler(replace(moving_clip, motion=steps), network, interval=3)
    assert labeler.motion_source == "codec"
    labeler.label([Chunk(first_frame=4, num_frames=3), Chunk(first_frame=7, num_frames=3)])
    (batch,) = network.batches
    assert batch.motion[0, :, 0, 4, 5].tolist() == [0, 1, 2]
    assert batch.next_motion[0, :, 0, 4, 5].tolist() == [-3, -2, -1]
    assert batch.next_motion_valid[:, :, 4, 5].tolist() == [[True] * 3, [False] * 3]


def test_a_keyframe_to_which_no_motion_leads_is_as_good_as_none(moving_clip):
    none = FrameMotion(
        index=0,
        pts=0,
        vector=np.zeros((2, 8, 12), np.float32),
        distance=np.zeros((8, 12), np.int8),
        height=64,
        width=96,
    )
    network = Sees(motion_grid=(8, 12), next_keyframe=True)
    ClipLabeler(replace(moving_clip, motion=(none,) * 10), network, interval=3).label(whole(0, interval=3))
    assert network.batches[0].next_valid.tolist() == [False]


def test_what_was_not_traced_is_zero_and_unknown():
    traced = np.ones((2, 2, 1, 3), np.float32), np.ones((2, 1, 3), bool)
    motion, known = stack_traced([None, traced], 3, (1, 3))
    assert motion[:, :, 0, 0, 0].tolist() == [[0, 0, 0], [1, 1, 0]]
    assert known[:, :, 0, 0].tolist() == [[False] * 3, [True, True, False]]
