"""Draws and encodes short clips whose frames carry their own number as a block pattern that survives compression.

So tests read a frame's identity from its pixels and never from the decoder that is under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

Draw = Callable[[int, int, int], np.ndarray | av.VideoFrame]

BITS = 12
GRID_ROWS, GRID_COLUMNS = 3, 4


def draw_frame(number: int, height: int = 72, width: int = 96) -> np.ndarray:
    """Image (height, width, 3) uint8: a 3x4 grid of light and dark blocks spelling `number`, over a moving texture."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)]).reshape(GRID_ROWS, GRID_COLUMNS)
    rows = np.arange(height) * GRID_ROWS // height
    columns = np.arange(width) * GRID_COLUMNS // width
    light = bits[rows[:, None], columns[None, :]] * 120.0 + 65.0
    y, x = np.mgrid[:height, :width]
    texture = 20.0 * np.sin((x + 2 * number) / 7.0) * np.cos((y - number) / 9.0)
    tint = np.stack([light + texture, light - texture, light + 0.5 * texture], axis=-1)
    return np.clip(tint, 0, 255).astype(np.uint8)


def read_number(image: np.ndarray) -> int:
    """The number that `draw_frame` put into an image (h, w, 3) of any size, read at the block centres."""
    height, width = image.shape[:2]
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, GRID_COLUMNS)
        top, bottom = (row + 0.3) * height / GRID_ROWS, (row + 0.7) * height / GRID_ROWS
        left, right = (column + 0.3) * width / GRID_COLUMNS, (column + 0.7) * width / GRID_COLUMNS
        block = image[int(top) : max(int(bottom), int(top) + 1), int(left) : max(int(right), int(left) + 1)]
        number |= int(block.mean() > 125) << bit
    return number


def write_clip(
    path: Path,
    *,
    num_frames: int = 60,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    size: tuple[int, int] = (72, 96),
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
    rotation: int = 0,
    container_options: Mapping[str, str] | None = None,
    audio_first: bool = False,
    draw: Draw = draw_frame,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
) -> Path:
    """Encode frames 0..num_frames-1 (at 30 frames/s, or at `pts` ticks of `time_base`) and return `path`.

    draw: makes a frame of its number, height and width. prepare: sets up the stream before its first frame.
    """
    with av.open(str(path), "w", options=dict(container_options or {})) as output:
        audio = output.add_stream("aac", rate=16000, layout="mono") if audio_first else None
        stream = add_video(output, codec=codec, options=options, size=size, pixel_format=pixel_format)
        if rotation:
            stream.set_display_rotation(rotation)
        prepare(stream)
        if audio is not None:
            encode_silence(output, audio, num_samples=16000 * num_frames // 30)
        encode_frames(output, stream, range(num_frames), pts=pts, time_base=time_base, draw=draw)
    return path


def add_video(
    output: av.container.OutputContainer,
    *,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    size: tuple[int, int] = (72, 96),
    pixel_format: str = "yuv420p",
) -> av.VideoStream:
    """A new stream of 30 frames/s, encoded by one thread."""
    stream = output.add_stream(codec, rate=30, options=dict(options or {}))
    stream.height, stream.width = size
    stream.pix_fmt = pixel_format
    stream.codec_context.thread_count = 1
    return stream


def encode_frames(
    output: av.container.OutputContainer,
    stream: av.VideoStream,
    numbers: Iterable[int],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
    draw: Draw = draw_frame,
) -> None:
    """Draw, encode and write frames of these numbers, at 0, 1, 2, ... or `pts` ticks."""
    stream.codec_context.time_base = time_base
    for place, number in enumerate(numbers):
        picture = draw(number, stream.height, stream.width)
        frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = pts[place] if pts is not None else place
        frame.time_base = time_base
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def write_audio(path: Path) -> Path:
    """Encode one second of silence, no video, and return `path`."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        encode_silence(output, stream, num_samples=16000)
    return path


def encode_silence(output: av.container.OutputContainer, stream: av.AudioStream, num_samples: int) -> None:
    """Write so many samples of silence, 16,000 a second."""
    for start in range(0, num_samples, 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def x264(**parameters: object) -> dict[str, str]:
    """Options of libx264 with these parameters of its own."""
    text = ":".join(f"{name.replace('_', '-')}={value}" for name, value in parameters.items())
    return {"x264-params": text, "preset": "veryfast"}


_B_FRAMES = x264(keyint=12, bframes=3)
_OPEN_GOP = x264(keyint=12, bframes=3, open_gop=1)
_ONE_I_FRAME = x264(keyint=1000, bframes=3, scenecut=0)
_REFRESH = x264(keyint=30, intra_refresh=1, bframes=0)
_HEVC = {"preset": "ultrafast", "x265-params": "keyint=12:bframes=3:log-level=none"}
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_UNEVEN_PTS = [n * 33 + (n % 5) * 3 + (40_000 if n >= 70 else 0) for n in range(110)]

# name -> (file name, arguments of write_clip): containers and codecs in which frames are easily lost or misnumbered.
ZOO: dict[str, tuple[str, dict]] = {
    "b_frames_mp4": ("b_frames.mp4", {"options": _B_FRAMES}),
    "b_frames_mkv": ("b_frames.mkv", {"options": _B_FRAMES}),
    "b_frames_ts": ("b_frames.ts", {"options": _B_FRAMES}),
    "faststart_mp4": ("faststart.mp4", {"options": _B_FRAMES, "container_options": {"movflags": "faststart"}}),
    "fragmented_mp4": ("fragmented.mp4", {"options": _B_FRAMES, "container_options": _FRAGMENTED}),
    "open_gop_mp4": ("open_gop.mp4", {"options": _OPEN_GOP}),
    "open_gop_mkv": ("open_gop.mkv", {"options": _OPEN_GOP}),
    "open_gop_ts": ("open_gop.ts", {"options": _OPEN_GOP}),
    "one_i_frame_mp4": ("one_i_frame.mp4", {"options": _ONE_I_FRAME}),
    "one_i_frame_ts": ("one_i_frame.ts", {"options": _ONE_I_FRAME}),
    "intra_refresh_mp4": ("intra_refresh.mp4", {"options": _REFRESH}),
    "intra_refresh_ts": ("intra_refresh.ts", {"options": _REFRESH}),
    "hevc_mp4": ("hevc.mp4", {"codec": "libx265", "options": _HEVC}),
    "hevc_ts": ("hevc.ts", {"codec": "libx265", "options": _HEVC}),
    "vp9_webm": ("vp9.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime", "g": "20"}}),
    "mpeg4_avi": ("mpeg4.avi", {"codec": "mpeg4"}),
    "mjpeg_mov": ("mjpeg.mov", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "odd_size_mp4": ("odd_size.mp4", {"size": (73, 97), "pixel_format": "yuv444p", "options": _B_FRAMES}),
    "ten_bit_mp4": ("ten_bit.mp4", {"pixel_format": "yuv420p10le", "options": _B_FRAMES}),
    "audio_first_mp4": ("audio_first.mp4", {"audio_first": True, "options": _B_FRAMES}),
    "uneven_pts_mp4": ("uneven.mp4", {"pts": _UNEVEN_PTS, "time_base": Fraction(1, 1000), "options": _B_FRAMES}),
    "uneven_pts_mkv": ("uneven.mkv", {"pts": _UNEVEN_PTS, "time_base": Fraction(1, 1000), "options": _B_FRAMES}),
}  # fmt: skip
ZOO_FRAMES = 110
