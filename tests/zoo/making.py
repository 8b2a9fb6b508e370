"""Encoding the zoo's videos: how pictures are drawn, which planes hold them, and which tags describe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.video import media
from tests.video.media import Draw, write_clip
from tests.zoo.drawing import COLOURED, PALETTE, TAGS, Drawing, palette_places, to_planes
from tests.zoo.exhibit import NUM_FRAMES, Exhibit, Frames, Make, Refused

EVERYDAY, LONG = media.ZOO, media.ZOO_FRAMES  # clips that many tests of `gsvnet.video` read, and their length
FINE = {"crf": "14"}  # of libx264 and libx265
LOSSLESS = {"x264-params": "keyint=12:bframes=3:qp=0", "preset": "veryfast"}
SHARP = {"qmin": "1", "qmax": "2", "g": "12"}  # of FFmpeg's own encoders
VP8 = {"deadline": "realtime", "cpu-used": "8", "b": "2M", "g": "12"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "b": "0", "crf": "15", "g": "20"}
AV1 = {"preset": "12", "crf": "5"}
TWO_FRAMES = Fraction(2, 30)  # which wait for B-frames: streams that cannot begin before 0 begin later


@dataclass(frozen=True, kw_only=True)
class Look:
    """How colours are stored and what the file says of them.

    matrix: of the planes; tag: of the matrix that is written, None: none. tagged_range: 0 unspecified, 1 limited,
    2 full. transfer, primaries: FFmpeg's numbers, 2: unspecified.
    """

    matrix: str = "bt601"
    tag: int | None = None
    full_range: bool = False
    tagged_range: int = 0
    transfer: int = 2
    primaries: int = 2


PLAIN = Look()
FULL = Look(full_range=True, tagged_range=2)


def tagged(matrix: str, *, full_range: bool = False, **rest: int) -> Look:
    """Planes by a matrix, and tags that say so."""
    return Look(matrix=matrix, tag=TAGS[matrix], full_range=full_range, tagged_range=1 + full_range, **rest)


def video(
    *,
    num_frames: int = NUM_FRAMES,
    pixel_format: str = "yuv420p",
    look: Look = PLAIN,
    drawing: Drawing = COLOURED,
    rotation: int = 0,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
    **arguments: object,
) -> Make:
    """Makes a clip as `write_clip` does, drawn upright, in planes of this look. prepare: sets up the stream."""

    def set_up(stream: av.VideoStream) -> None:
        _write_tags(stream, look)
        prepare(stream)

    return partial(
        _make,
        num_frames=num_frames,
        pixel_format=pixel_format,
        rotation=rotation,
        draw=drawn_in(pixel_format, look, drawing, rotation),
        prepare=set_up,
        **arguments,
    )


def clip(file: str, shows: str, expect: Frames | Refused, *, happens: str = "", **arguments: Any) -> Exhibit:
    """An exhibit made by `video` with these arguments."""
    return Exhibit(file=file, shows=shows, make=video(**arguments), expect=expect, happens=happens)


def everyday(
    name: str, shows: str, expect: Frames | Refused, *, finer: Mapping[str, str] = FINE, **changes: Any
) -> Exhibit:
    """An exhibit with the arguments of an everyday clip. finer: options beside its own."""
    file, arguments = EVERYDAY[name]
    options = arguments.get("options", {}) | finer
    return clip(file, shows, expect, **arguments | changes | {"num_frames": LONG, "options": options})


def _make(path: Path, **arguments: object) -> None:
    write_clip(path, **arguments)  # type: ignore[arg-type]


def drawn_in(pixel_format: str, look: Look = PLAIN, drawing: Drawing = COLOURED, rotation: int = 0) -> Draw:
    """Draws frames as they are stored: turned back by `rotation`, in planes where the format is planar."""

    def draw(number: int, height: int, width: int) -> np.ndarray | av.VideoFrame:
        size = (width, height) if rotation in (90, 270) else (height, width)
        stored = np.ascontiguousarray(np.rot90(drawing.draw(number, *size), -rotation // 90))
        if pixel_format == "pal8":
            palette = np.insert(PALETTE, 0, 255, axis=1)  # alpha first
            return av.VideoFrame.from_ndarray((palette_places(stored), palette), format="pal8")
        if not _is_planar(pixel_format):
            return stored
        frame = to_planes(stored, pixel_format, matrix=look.matrix, full_range=look.full_range)
        frame.colorspace = 2 if look.tag is None else look.tag
        frame.color_range = look.tagged_range
        return frame

    return draw


def _is_planar(pixel_format: str) -> bool:
    return pixel_format.startswith(("yuv", "gbr", "gray"))


def _write_tags(stream: av.VideoStream, look: Look) -> None:
    context = stream.codec_context
    context.colorspace = 2 if look.tag is None else look.tag
    context.color_range, context.color_trc, context.color_primaries = look.tagged_range, look.transfer, look.primaries


def x264(**parameters: object) -> dict[str, str]:
    """Options of libx264, with small errors."""
    return media.x264(**parameters) | FINE


def x265(**parameters: object) -> dict[str, str]:
    """Options of libx265, with small errors."""
    text = ":".join(f"{name.replace('_', '-')}={value}" for name, value in parameters.items())
    return {"x265-params": f"{text}:log-level=none", "preset": "ultrafast"} | FINE


B_FRAMES = x264(keyint=12, bframes=3)
