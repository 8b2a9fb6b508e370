"""Codec motion beside a clip of images: whose frames must be the same, and traced chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gsvnet.chunks import Chunk
from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation.codec_motion import attach_motion, trace_chunks
from gsvnet.evaluation.dataset import Clip, Frame, LabelIds, ScoredClips
from gsvnet.video.motion import FrameMotion


def clip_of(folder: Path, num_frames: int, *, size: tuple[int, int] = (72, 96), step_ms: float | None = 66.7):
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / "image.png")
    frame = Frame(image=folder / "image.png", labels=folder / "labels.png", ids=LabelIds(classes={}, allowed=""))
    clip = Clip(name="drive", frames=(frame,) * num_frames, scored=(num_frames - 1,))
    return ScoredClips(
        dataset="drawn", split="val", classes=CAMVID, clips=(clip,), keyframe_interval=1, step_ms=step_ms
    )


def test_every_image_gets_its_frames_motion(drive, tmp_path):
    (clip,) = attach_motion(clip_of(tmp_path, 60), str(drive)).clips
    assert [frame.index for frame in clip.motion] == list(range(60))
    with av.open(str(drive)) as container:
        is_intra = [frame.pict_type == av.video.frame.PictureType.I for frame in container.decode(video=0)]
    assert [not frame.distance.any() for frame in clip.motion] == is_intra


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 59}, "drive.mp4 has 60 frames; val has 59 images"),
        ({"size": (96, 72)}, "frames of 72x96; the images of val have 96x72"),
        ({"step_ms": None}, "no single clip"),
    ],
)
def test_a_video_of_other_images_is_refused(drive, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        attach_motion(clip_of(tmp_path, **{"num_frames": 60} | changes), str(drive))


def test_motion_leads_to_each_chunks_own_keyframe(tmp_path):
    (clip,) = clip_of(tmp_path, 4).clips
    motion = tuple(
        FrameMotion(
            index=index,
            pts=index,
            vector=np.full((2, 9, 12), 8.0, np.float32),
            distance=np.ones((9, 12), np.int8),
            height=72,
            width=96,
        )
        for index in range(4)
    )
    clip = Clip(name=clip.name, frames=clip.frames, scored=clip.scored, motion=motion)
    chunks = [Chunk(first_frame=0, num_frames=3), Chunk(first_frame=2, num_frames=2)]
    traced, known = trace_chunks(clip, chunks, (9, 12))
    assert traced.shape == (2, 3, 2, 9, 12)
    assert traced[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [0, 1, 0]]
    assert known[:, :, 0, 0].tolist() == [[True, True, True], [True, True, False]]
