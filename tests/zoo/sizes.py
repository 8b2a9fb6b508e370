"""Orientation and size of pictures."""

from __future__ import annotations

from fractions import Fraction

from tests.zoo.changing import then, with_matrix
from tests.zoo.drawing import LEVEL
from tests.zoo.exhibit import Exhibit, Frames, Refused, steady
from tests.zoo.making import B_FRAMES, LOSSLESS, TWO_FRAMES, VP9, Look, clip, everyday, video
from tests.zoo.several import of_sizes

_ONE, _UNIT = 1 << 16, 1 << 30
_SWAP_SIDES = (-_ONE, 0, 0, 0, _ONE, 0, 0, 0, _UNIT)
_SWAP_ENDS = (_ONE, 0, 0, 0, -_ONE, 0, 0, 0, _UNIT)
_MIRRORED = Refused(message="its pictures are stored mirrored; re-encode it: ffmpeg -i IN OUT.mkv")
_SCALED = "frames of another size are scaled to that of the first"


def _turned(rotation: int) -> Exhibit:
    size = (72, 96) if rotation == 180 else (96, 72)
    expect = steady(size=size, rotation=rotation, colour_error=6)
    shows = f"a display matrix that turns by {rotation} degrees"
    return clip(f"turned_{rotation}.mp4", shows, expect, rotation=rotation, options=B_FRAMES, happens="upright")


def _with_matrix(file: str, shows: str, expect: Frames | Refused, *matrix: int, happens: str = "") -> Exhibit:
    make = then(video(options=B_FRAMES, rotation=0, prepare=_with_identity), with_matrix(*matrix))
    return Exhibit(file=file, shows=shows, make=make, expect=expect, happens=happens)


def _with_identity(stream) -> None:
    stream.set_display_rotation(0)


def _sized(file: str, shows: str, *sizes: tuple[int, int], start: Fraction | int = 0, **arguments) -> Exhibit:
    expect = steady(start=start, size=sizes[0], other_sizes={place: sizes[1] for place in range(12, 24)})
    return Exhibit(file=file, shows=shows, make=of_sizes(*sizes, **arguments), expect=expect, happens=_SCALED)


def _with_wide_pixels(stream) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(4, 3)


TURNS_AND_SIZES = (
    *[_turned(rotation) for rotation in (90, 180, 270)],
    _with_matrix(
        "turned_30.mp4",
        "a display matrix that turns by 30 degrees",
        steady(),
        *(56755, -32767, 0, 32767, 56755, 0, 0, 0, _UNIT),
        happens="the nearest quarter turn",
    ),
    _with_matrix("turned_nowhere.mp4", "a display matrix of zeros", steady(), *[0] * 9, happens="not turned"),
    _with_matrix("mirrored.mp4", "a display matrix that swaps left and right", _MIRRORED, *_SWAP_SIDES),
    _with_matrix("upside_down.mp4", "a display matrix that swaps top and bottom", _MIRRORED, *_SWAP_ENDS),
    clip(
        "wide_pixels.mp4",
        "pixels that are wider than high",
        steady(),
        options=B_FRAMES,
        prepare=_with_wide_pixels,
        happens="pixels as they are stored: masks have the stored size",
    ),
    everyday("odd_size_mp4", "97 x 73 pixels", steady(110, size=(73, 97), colour_error=7)),
    clip(
        "odd_size.webm",
        "97 x 73 pixels, 4:2:0",
        steady(size=(73, 97), colour_error=5),
        size=(73, 97),
        codec="libvpx-vp9",
        options=VP9,
    ),
    clip(
        "tiny.mp4",
        "2 x 2 pixels",
        steady(10, size=(2, 2), drawing=LEVEL, colour_error=2),
        num_frames=10,
        size=(2, 2),
        drawing=LEVEL,
        options=LOSSLESS,
    ),
    clip(
        "tiny.mkv",
        "1 x 1 pixel",
        steady(10, size=(1, 1), drawing=LEVEL, colour_error=2),
        num_frames=10,
        size=(1, 1),
        drawing=LEVEL,
        codec="ffv1",
    ),
    clip(
        "wide.mp4",
        "4000 x 16 pixels",
        steady(4, size=(16, 4000), colour_error=3),
        num_frames=4,
        size=(16, 4000),
        options=LOSSLESS,
    ),
    clip(
        "high.mp4",
        "16 x 4000 pixels",
        steady(4, size=(4000, 16), colour_error=1.5),
        num_frames=4,
        size=(4000, 16),
        options=LOSSLESS,
        look=Look(matrix="bt709"),
        pixel_format="yuv444p",
    ),
    _sized("grows.mp4", "a size that doubles on the way, in MP4", (72, 96), (144, 192), options=B_FRAMES),
    _sized(
        "shrinks.ts",
        "a size that halves on the way, in MPEG-TS",
        (144, 192),
        (72, 96),
        start=TWO_FRAMES,
        options=B_FRAMES,
    ),
    _sized("turns.mkv", "pictures that become upright on the way, in Matroska", (72, 96), (96, 72), options=B_FRAMES),
    _sized(
        "grows.webm", "VP9 whose size doubles between I-frames", (72, 96), (144, 192), codec="libvpx-vp9", options=VP9
    ),
)
