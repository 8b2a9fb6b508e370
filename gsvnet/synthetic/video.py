"""Drawn drives as video files, and frame numbers that survive compression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.synthetic.scene import SceneConfig, StreetScene

if TYPE_CHECKING:
    from av.video.stream import VideoStream

NUMBER_BITS = 20


def write_video(
    path: str | Path,
    *,
    config: SceneConfig,
    num_frames: int,
    first_frame: int = 0,
    codec: str = "libx264",
    gop: int = 30,
    options: Mapping[str, str] | None = None,
    numbered: bool = False,
    report: Callable[[int], None] | None = None,
) -> Path:
    """Path of a video of num_frames frames from first_frame on, at config.fps; the suffix picks the container.

    gop: frames between I-frames at most. options: of the encoder, over the defaults (x264: crf 20, preset veryfast,
    one thread, so that the same FFmpeg writes the same bytes). numbered: stamp each frame's number, counted from
    first_frame, into the picture (`read_number`). report: called with the number of frames written so far.
    Needs even height and width for 4:2:0 codecs. Raises ConfigError.
    """
    if num_frames < 1 or gop < 1:
        raise ConfigError(f"num_frames {num_frames}, gop {gop}; both must be at least 1")
    if config.height % 2 or config.width % 2:
        raise ConfigError(f"video of {config.height}x{config.width} pixels; height and width must be even")
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "label") from error
    scene, time_base = StreetScene(config), Fraction(1, config.fps * 512)
    defaults = {"crf": "20", "preset": "veryfast"} if codec in ("libx264", "libx265") else {}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = cast(
            "VideoStream", container.add_stream(codec, rate=config.fps, options={**defaults, **(options or {})})
        )
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
        stream.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        for number in range(num_frames):
            image = scene.image(first_frame + number)
            if numbered:
                stamp_number(image, number)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number * 512, time_base
            container.mux(stream.encode(frame))
            if report is not None:
                report(number + 1)
        container.mux(stream.encode())
    return Path(path)


def read_labels(config: SceneConfig, index: int) -> NDArray[np.uint8]:
    """True labels (h, w) uint8, ids of CAMVID, of frame `index`; for many frames keep a StreetScene instead."""
    return StreetScene(config).labels(index)


def stamp_number(image: NDArray[np.uint8], number: int) -> None:
    """Write `number` (0 .. 2**20 - 1) into the top left corner of an image (h, w, 3) as black and white blocks."""
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ConfigError(f"frame number {number}; 0 to {(1 << NUMBER_BITS) - 1} fit into the stamp")
    for bit, (rows, columns) in enumerate(_blocks(image.shape[0], image.shape[1])):
        image[rows, columns] = 235 if number >> bit & 1 else 20


def read_number(image: NDArray[np.uint8]) -> int:
    """The number that `stamp_number` wrote into an image of any later size (h, w) or (h, w, 3)."""
    height, width = image.shape[:2]
    bits = [image[rows, columns].mean() > 127 for rows, columns in _blocks(height, width)]
    return sum(1 << bit for bit, is_set in enumerate(bits) if is_set)


def _blocks(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each bit's block: two rows of ten in the top left, in fixed shares of the picture."""
    edges_y = [round(height * share) for share in (0, 0.06, 0.12)]
    edges_x = [round(width * 0.045 * i) for i in range(NUMBER_BITS // 2 + 1)]
    return [
        (slice(edges_y[row], edges_y[row + 1]), slice(edges_x[i], edges_x[i + 1]))
        for row in range(2)
        for i in range(NUMBER_BITS // 2)
    ]
