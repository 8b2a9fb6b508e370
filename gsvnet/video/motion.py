"""Codec motion: where the encoder found each block of a frame in another one. It comes with decoding, for free.

FFmpeg gives vectors out for H.264 and the MPEG-1, -2 and -4 family; none for HEVC, VP9, AV1 and MJPEG, and none for
I-frames. Which frame a vector leads to is found in `references.py`, whether a video's vectors can be trusted in
`motion_source.py`; `tracing.py` follows them over many frames, and `proxy.py` finds motion where a codec gives none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, repeat

from gsvnet.errors import ConfigError
from gsvnet.uris import StorageOptions
from gsvnet.video.decode import Frame, make_frame, read_pictures
from gsvnet.video.frames import View
from gsvnet.video.motion_field import FrameMotion, make_field, one_back, see_picture
from gsvnet.video.references import CodedPicture, find_distances
from gsvnet.video.tracing import trace_to_keyframe, trace_to_next_keyframe

__all__ = ["FrameMotion", "read_frames_and_motion", "read_motion", "trace_to_keyframe", "trace_to_next_keyframe"]


def read_motion(
    uri: str,
    *,
    first_frame: int = 0,
    start_pts: int = 0,
    end_pts: int | None = None,
    rotation: int = 0,
    max_distance: int,
    threads: int = 1,
    storage_options: StorageOptions | None = None,
    identity: str | None = None,
) -> Iterator[FrameMotion]:
    """Motion of every frame with start_pts <= pts < end_pts, in display order: the frames of `read_frames`.

    Start at an I-frame: a vector that leads out of the range has no distance. max_distance: how many frames away a
    reference is looked for. At 1 nothing is looked for and every vector is taken to lead to the previous frame, which
    is right for streams with one reference and without B-frames; vectors that lead ahead are dropped then.
    Raises as `read_frames` does, and ConfigError for a max_distance below 1.
    """
    pairs = read_frames_and_motion(
        uri,
        first_frame=first_frame,
        start_pts=start_pts,
        end_pts=end_pts,
        views=lambda index: (),
        rotation=rotation,
        max_distance=max_distance,
        threads=threads,
        storage_options=storage_options,
        identity=identity,
    )
    for _, motion in pairs:
        yield motion


def read_frames_and_motion(
    uri: str,
    *,
    first_frame: int,
    start_pts: int,
    end_pts: int | None,
    views: Callable[[int], Sequence[View]],
    rotation: int = 0,
    max_distance: int,
    threads: int = 1,
    storage_options: StorageOptions | None = None,
    identity: str | None = None,
) -> Generator[tuple[Frame, FrameMotion], None, None]:
    """Every frame of the range as `read_frames` gives it, with its motion as `read_motion` does, from one decode.

    On the CPU: NVDEC gives no vectors. With a max_distance above 1 frames come that many frames later.
    Raises as `read_frames` and `read_motion` do.
    """
    if max_distance < 1:
        raise ConfigError(f"max_distance {max_distance}: must be at least 1")
    pictures = read_pictures(
        uri,
        start_pts=start_pts,
        end_pts=end_pts,
        threads=threads,
        motion=True,
        storage_options=storage_options,
        identity=identity,
    )
    looks = max_distance > 1
    seen = (
        (make_frame(index, picture, views, rotation), see_picture(picture.pts, picture.image, with_luma=looks))
        for index, picture in enumerate(pictures, start=first_frame)
    )
    for frame, window in _with_neighbours(seen, max_distance if looks else 0):
        here = window[len(window) // 2]
        assert here is not None
        distances = find_distances(window) if looks else one_back(here)
        yield frame, make_field(here, distances, index=frame.index, rotation=rotation)


def _with_neighbours(
    pictures: Iterable[tuple[Frame, CodedPicture]], reach: int
) -> Iterator[tuple[Frame, tuple[CodedPicture | None, ...]]]:
    """Each frame, and its picture amid the `reach` before and after it, None beyond the ends."""
    window: deque[tuple[Frame, CodedPicture] | None] = deque([None] * (2 * reach + 1), maxlen=2 * reach + 1)
    for pair in chain(pictures, repeat(None, reach)):
        window.append(pair)
        middle = window[reach]
        if middle is not None:
            yield middle[0], tuple(other and other[1] for other in window)
