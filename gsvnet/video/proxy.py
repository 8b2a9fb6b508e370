"""Motion between images, found by a small video encoder: where a video's own codec gives none that can be trusted.

x264 is a fast and careful block matcher. Here it writes a stream of which only the vectors are kept. Per image of
180x240 that takes about 6 times as long as decoding it, and a twentieth of a network of 2.6 GMAC on one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags2

from gsvnet.errors import ConfigError, VideoError
from gsvnet.video.motion_field import Bools, Floats, FrameMotion, make_field, one_back, see_picture
from gsvnet.video.tracing import trace_to_keyframe

# One reference, the image before. A constant quantiser: neither the images that follow nor their sizes in bytes count.
# Chosen by accuracy against time (`tests/video/measure_motion.py`): a finer quantiser follows noise, a coarser one lets
# errors pass on; trellis and CABAC cost time and give nothing; without subme 6, flat areas have fewer vectors.
_PARAMETERS = (
    "ref=1:bframes=0:keyint=infinite:scenecut=0:weightp=0:mbtree=0:rc-lookahead=0:sync-lookahead=0:aq-mode=0:qp=20:"
    "ipratio=1:threads=1:sliced-threads=0:cpu-independent=1:me=hex:subme=6:partitions=p8x8,i8x8,i4x4:trellis=0:cabac=0"
)
_LUMA = (77, 150, 29)  # of 256, as in BT.601


def check_proxy() -> None:
    """Raise ConfigError where this FFmpeg lacks the encoder that `trace_by_proxy` needs."""
    if "libx264" not in av.codecs_available:
        raise ConfigError("this FFmpeg has no libx264, which finds motion; install the av wheel of PyPI")


def trace_by_proxy(images: Sequence[np.ndarray], grid: tuple[int, int]) -> tuple[Floats, Bools]:
    """Motion (N, 2, gh, gw) float32 from each image to the first, in pixels of `grid`, and where it is known.

    images: (h, w, 3) uint8 RGB of one size, in order of time, forward or backward: each is compared with the one before
    it in the sequence. grid: (gh, gw). Depends on nothing but these images. known: (N, gh, gw), as
    `trace_to_keyframe` says. Raises ConfigError for other images, and VideoError if the encoder fails.
    """
    if min(grid) < 1:
        raise ConfigError(f"motion grid {grid}; rows and columns must be at least 1")
    return trace_to_keyframe(find_motion(images), *grid)


def trace_to_next_by_proxy(
    images: Sequence[np.ndarray], next_keyframe: np.ndarray, grid: tuple[int, int]
) -> tuple[Floats, Bools]:
    """Motion (N, 2, gh, gw) float32 from each image to the keyframe after them, and where it is known (N, gh, gw).

    images: one or more, in display order; they are compared backwards, each with the one after it. Size, type, grid and
    what is raised: as `trace_by_proxy`.
    """
    motion, known = trace_by_proxy([next_keyframe, *reversed(images)], grid)
    return motion[:0:-1].copy(), known[:0:-1].copy()


def find_motion(images: Sequence[np.ndarray]) -> list[FrameMotion]:
    """Motion of each image to the one before it, none of the first. Raises as `trace_by_proxy` does."""
    _check_images(images)
    check_proxy()
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags2 |= Flags2.export_mvs
    fields: list[FrameMotion] = []
    try:
        for packet in (*_encode(images), None):
            for picture in decoder.decode(packet):
                seen = see_picture(len(fields), picture, with_luma=False)
                fields.append(make_field(seen, one_back(seen), index=len(fields)))
    except av.error.FFmpegError as error:
        raise VideoError(f"finding motion between images of {images[0].shape} failed ({error})") from None
    if len(fields) != len(images):
        raise VideoError(f"finding motion between {len(images)} images of {images[0].shape} gave {len(fields)}")
    return fields


def _check_images(images: Sequence[np.ndarray]) -> None:
    shapes = sorted({image.shape for image in images})
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 3 and min(shapes[0]) > 0
    if not fits or any(image.dtype != np.uint8 for image in images):
        raise ConfigError(f"{len(images)} images of {shapes}; one or more (h, w, 3) uint8 of one size are needed")


def _encode(images: Sequence[np.ndarray]) -> Iterator[av.Packet]:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = images[0].shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "gray", Fraction(1, 25), 1
    encoder.options = {"preset": "fast", "x264-params": _PARAMETERS}
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(_luma(image), format="gray")
        frame.pts = index
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def _luma(image: np.ndarray) -> np.ndarray:
    red, green, blue = (image[..., channel].astype(np.uint16) * share for channel, share in enumerate(_LUMA))
    return ((red + green + blue) >> 8).astype(np.uint8)
