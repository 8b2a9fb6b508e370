from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.labeling.chunk_motion import add_motion, trace_by_codec, trace_by_images, with_motion
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds
from gsvnet.video.decode import Frame
from gsvnet.video.frames import View
from gsvnet.video.motion import read_frames_and_motion, trace_to_keyframe, trace_to_next_keyframe
from gsvnet.video.proxy import trace_by_proxy, trace_to_next_by_proxy

GRID = 9, 12
NEEDS = FrameNeeds(keyframe_size=(72, 96), frame_size=(36, 48), motion_grid=GRID, next_keyframe=True)


@pytest.fixture(scope="module")
def frames(media, tmp_path_factory):
    """Seven frames with the codec's motion: a chunk of six and the keyframe after it, which is no I-frame."""
    options = {"x264-params": "ref=1:bframes=0:keyint=60:scenecut=0"}
    clip = media.write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=7, options=options)
    pairs = read_frames_and_motion(
        str(clip),
        first_frame=0,
        start_pts=0,
        end_pts=None,
        views=lambda _: (View(36, 48, "area"),),
        max_distance=1,
    )
    return list(with_motion(pairs))


def lose(frame):
    return replace(frame, images=(), status="decode_error")


def test_the_codecs_motion_leads_to_both_keyframes(frames):
    found = trace_by_codec(frames[:6], frames[6], NEEDS)
    fields = [frame.motion for frame in frames]
    motion, known = trace_to_keyframe(fields[:6], *GRID)
    next_motion, next_known = trace_to_next_keyframe(fields[:6], fields[6], *GRID)
    np.testing.assert_array_equal(found.motion, motion)
    np.testing.assert_array_equal(found.known, known)
    np.testing.assert_array_equal(found.next_motion, next_motion)
    np.testing.assert_array_equal(found.next_known, next_known)
    assert found.reaches_next


def test_the_codecs_motion_is_followed_over_lost_frames_which_have_none_themselves(frames):
    whole = trace_by_codec(frames[:6], None, NEEDS)
    found = trace_by_codec([*frames[:2], lose(frames[2]), *frames[3:6]], None, NEEDS)
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found.motion, whole.motion[kept])
    np.testing.assert_array_equal(found.known, whole.known[kept])
    assert (found.next_motion, found.reaches_next) == (None, False)


def test_a_proxy_sees_the_decoded_images_and_runs_backwards_to_the_next_keyframe(frames):
    chunk = [*frames[:2], lose(frames[2]), *frames[3:6]]
    images = [frame.images[0] for frame in chunk if frame.images]
    found = trace_by_images(chunk, frames[6], NEEDS)
    motion, known = trace_by_proxy(images, GRID)
    next_motion, next_known = trace_to_next_by_proxy(images, frames[6].images[0], GRID)
    np.testing.assert_array_equal(found.motion, motion)
    np.testing.assert_array_equal(found.known, known)
    np.testing.assert_array_equal(found.next_motion, next_motion)
    np.testing.assert_array_equal(found.next_known, next_known)


@pytest.mark.parametrize("trace", [trace_by_images, trace_by_codec])
@pytest.mark.parametrize("num_lost", [0, 3])
def test_a_chunk_that_has_nothing_but_its_keyframe_needs_no_other(frames, trace, num_lost):
    found = trace([frames[0], *map(lose, frames[1 : 1 + num_lost])], frames[4], NEEDS)
    assert found.motion.shape == (1, 2, *GRID)
    assert (found.next_motion, found.reaches_next) == (None, False)


@pytest.mark.parametrize("change", [torch.as_tensor, lambda image: image + np.float32(0.3)], ids=["tensor", "float"])
def test_a_proxy_takes_images_as_any_decoder_gives_them(frames, change):
    expected = trace_by_images(frames[:3], None, NEEDS)
    changed = [Frame(index=f.index, pts=f.pts, images=(change(f.images[0]),), status="ok") for f in frames[:3]]
    np.testing.assert_array_equal(trace_by_images(changed, None, NEEDS).motion, expected.motion)


def test_in_a_batch_what_is_no_frame_has_no_motion(frames):
    chunks = ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([3, 0, 0]),
        keyframes=torch.zeros(4, 3, 72, 96),
        valid=torch.zeros(3, 4, dtype=torch.bool),
    )
    traced = trace_by_images(frames[:3], frames[3], NEEDS)
    batch = add_motion(chunks, [traced, None], NEEDS)
    assert tuple(batch.motion.shape) == tuple(batch.next_motion.shape) == (3, 4, 2, *GRID)
    assert tuple(batch.motion_valid.shape) == tuple(batch.next_motion_valid.shape) == (3, 4, *GRID)
    np.testing.assert_array_equal(batch.motion[0, :3].numpy(), traced.motion)
    np.testing.assert_array_equal(batch.next_motion[0, :3].numpy(), traced.next_motion)
    assert not batch.motion_valid[0, 3:].any()
    assert not batch.motion_valid[1:].any()
    assert batch.motion_valid[0, :3].float().mean() > 0.3
