"""How colours and fields are stored."""

from __future__ import annotations

from fractions import Fraction

from tests.zoo.drawing import COMBED, GRAY, PALETTED
from tests.zoo.exhibit import Exhibit, Refused, steady
from tests.zoo.making import LOSSLESS, TWO_FRAMES, VP9, Look, clip, everyday, tagged, x264, x265

_WOVEN = "both fields in one picture, as stored"
_CODES = "levels as they are stored, without tone mapping"
_HDR = "its colours are HDR, which is not mapped: networks that learned from ordinary video see it flat"
_ALPHA = "colours as stored, alpha is left out"


def _matrix(name: str, *, full_range: bool = False) -> Exhibit:
    file = f"{name}{'_full' if full_range else ''}.mp4"
    shows = f"{_STANDARDS[name]}, {'full' if full_range else 'limited'} range"
    look = tagged(name, full_range=full_range)
    return clip(file, shows, steady(colour_error=1.5), pixel_format="yuv444p", options=LOSSLESS, look=look)


_STANDARDS = {"bt601": "BT.601", "bt709": "BT.709", "bt2020": "BT.2020", "smpte240m": "SMPTE 240M", "fcc": "FCC"}


COLOURS = (
    *[_matrix(name) for name in _STANDARDS],
    *[_matrix(name, full_range=True) for name in _STANDARDS],
    clip("bt709_420.mp4", "BT.709, 4:2:0", steady(colour_error=3), options=LOSSLESS, look=tagged("bt709")),
    clip(
        "untagged_sd.mp4",
        "no tags, 576 rows",
        steady(2, size=(576, 96), colour_error=3),
        num_frames=2,
        size=(576, 96),
        options=LOSSLESS,
        happens="taken for BT.601, limited",
    ),
    clip(
        "untagged_hd.mp4",
        "no tags, 720 rows",
        steady(2, size=(720, 96), colour_error=3),
        num_frames=2,
        size=(720, 96),
        options=LOSSLESS,
        look=Look(matrix="bt709"),
        happens="taken for BT.709, limited",
    ),
    *[
        clip(
            f"{file}.mp4",
            f"colours tagged as {name}",
            Refused(message=f"its colours are stored as {name}, which is not read; convert them to BT.709"),
            options=LOSSLESS,
            look=Look(tag=tag),
        )
        for file, tag, name in (
            ("ycgco", 8, "YCgCo"),
            ("bt2020_constant", 10, "BT.2020 of constant luminance"),
            ("ictcp", 14, "ICtCp"),
        )
    ],
    everyday("ten_bit_mp4", "H.264, 10 bits", steady(110)),
    clip(
        "ten_bit_av1.mp4",
        "AV1, 10 bits",
        steady(size=(144, 192)),
        size=(144, 192),
        codec="libsvtav1",
        pixel_format="yuv420p10le",
        options={"preset": "8", "crf": "30"},
    ),
    clip(
        "twelve_bit.mp4",
        "H.265, 12 bits, 4:4:4",
        steady(colour_error=4),
        codec="libx265",
        pixel_format="yuv444p12le",
        options=x265(keyint=12),
    ),
    clip("sixteen_bit.mkv", "FFV1, 16 bits", steady(colour_error=3), codec="ffv1", pixel_format="yuv420p16le"),
    clip("yuv422.mp4", "H.264, 4:2:2, 10 bits", steady(colour_error=4), pixel_format="yuv422p10le", options=LOSSLESS),
    clip("yuv444.mp4", "H.264, 4:4:4", steady(colour_error=1), pixel_format="yuv444p", options=LOSSLESS),
    clip("yuv440.mkv", "4:4:0", steady(colour_error=3), codec="ffv1", pixel_format="yuv440p"),
    clip("yuv410.mkv", "4:1:0", steady(colour_error=4), codec="ffv1", pixel_format="yuv410p"),
    clip(
        "gray.mkv",
        "gray, full range",
        steady(drawing=GRAY, colour_error=1),
        codec="ffv1",
        pixel_format="gray",
        drawing=GRAY,
        look=Look(full_range=True),
    ),
    clip(
        "gray_limited.mkv",
        "gray, 10 bits, limited range",
        steady(drawing=GRAY, colour_error=2),
        codec="ffv1",
        pixel_format="gray10le",
        drawing=GRAY,
        look=tagged("bt601"),
    ),
    clip(
        "gray.mp4",
        "H.265 without colours",
        steady(drawing=GRAY, colour_error=2),
        codec="libx265",
        pixel_format="gray",
        drawing=GRAY,
        options=x265(keyint=12),
    ),
    clip(
        "rgb.mp4",
        "H.264 that stores red, green and blue",
        steady(colour_error=1),
        codec="libx264rgb",
        pixel_format="bgr24",
        options=LOSSLESS,
    ),
    clip("rgb16.mkv", "red, green and blue of 16 bits", steady(colour_error=2), codec="ffv1", pixel_format="gbrp16le"),
    clip(
        "palette.mov",
        "a palette of 256 colours",
        steady(drawing=PALETTED, colour_error=1),
        codec="png",
        pixel_format="pal8",
        drawing=PALETTED,
    ),
    clip(
        "alpha.webm",
        "VP9 with alpha",
        steady(),
        codec="libvpx-vp9",
        pixel_format="yuva420p",
        options=VP9 | {"auto-alt-ref": "0"},
        happens=_ALPHA,
    ),
    clip(
        "alpha.mov",
        "ProRes with alpha",
        steady(colour_error=1),
        codec="prores_ks",
        pixel_format="yuva444p10le",
        happens=_ALPHA,
    ),
    clip(
        "alpha.avi",
        "HuffYUV with red, green, blue and alpha",
        steady(colour_error=1),
        codec="huffyuv",
        pixel_format="bgra",
        happens=_ALPHA,
    ),
    clip(
        "pq.mp4",
        "HDR: PQ, BT.2020",
        steady(problems=(_HDR,)),
        codec="libx265",
        pixel_format="yuv420p10le",
        look=tagged("bt2020", transfer=16, primaries=9),
        options=x265(keyint=12),
        happens=_CODES,
    ),
    clip(
        "hlg.mp4",
        "HDR: HLG, BT.2020",
        steady(problems=(_HDR,)),
        codec="libx265",
        pixel_format="yuv420p10le",
        look=tagged("bt2020", transfer=18, primaries=9),
        options=x265(keyint=12),
        happens=_CODES,
    ),
    clip(
        "top_field_first.mp4",
        "H.264, interlaced, top field first",
        steady(drawing=COMBED, colour_error=7),
        drawing=COMBED,
        options=x264(keyint=12, tff=1),
        happens=_WOVEN,
    ),
    clip(
        "bottom_field_first.ts",
        "H.264, interlaced, bottom field first",
        steady(drawing=COMBED, colour_error=7, start=TWO_FRAMES),
        drawing=COMBED,
        options=x264(keyint=12, bff=1, bframes=2),
        happens=_WOVEN,
    ),
    clip(
        "interlaced.ts",
        "MPEG-2, interlaced",
        steady(drawing=COMBED, start=Fraction(1, 30)),
        drawing=COMBED,
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "qmin": "1", "qmax": "2", "bf": "2"},
        happens=_WOVEN,
    ),
)
