"""Codecs, and the ways in which their frames depend on one another."""

from __future__ import annotations

from fractions import Fraction

from tests.zoo.exhibit import steady
from tests.zoo.making import AV1, FULL, LONG, SHARP, TWO_FRAMES, VP8, VP9, clip, everyday, tagged, x264, x265

_HIDDEN = {"deadline": "good", "cpu-used": "5", "b": "0", "crf": "15", "auto-alt-ref": "1", "lag-in-frames": "16"}

CODECS = (
    everyday("b_frames_mp4", "H.264 with B-frames", steady(LONG)),
    clip(
        "b_pyramid.mp4",
        "H.264, seven B-frames in a row that refer to one another",
        steady(),
        options=x264(keyint=24, bframes=7, b_pyramid="normal", b_adapt=0),
    ),
    clip("every_i_frame.mp4", "H.264, every frame an I-frame", steady(), options=x264(keyint=1)),
    everyday("one_i_frame_mp4", "H.264, one I-frame in all", steady(LONG)),
    everyday("one_i_frame_ts", "the same in MPEG-TS", steady(LONG, start=TWO_FRAMES)),
    everyday("open_gop_mp4", "H.264, B-frames that refer across I-frames", steady(LONG)),
    everyday("open_gop_mkv", "the same in Matroska", steady(LONG)),
    everyday("open_gop_ts", "the same in MPEG-TS", steady(LONG, start=TWO_FRAMES)),
    everyday("intra_refresh_mp4", "H.264 that refreshes columns instead of sending I-frames", steady(LONG)),
    everyday("intra_refresh_ts", "the same in MPEG-TS", steady(LONG)),
    clip("slices.mp4", "H.264 with many slices per frame", steady(), options=x264(keyint=12, bframes=3, slices=4)),
    everyday("hevc_mp4", "H.265 with B-frames", steady(LONG)),
    everyday("hevc_ts", "the same in MPEG-TS", steady(LONG, start=TWO_FRAMES)),
    clip(
        "hevc_open_gop.mkv",
        "H.265, B-frames that refer across I-frames",
        steady(),
        codec="libx265",
        options=x265(keyint=8, bframes=3, open_gop=1),
    ),
    clip("vp8.webm", "VP8", steady(), codec="libvpx", options=VP8),
    everyday("vp9_webm", "VP9", steady(LONG), finer=VP9),
    clip("vp9_hidden.webm", "VP9 with frames that are never shown", steady(), codec="libvpx-vp9", options=_HIDDEN),
    clip("av1.mp4", "AV1", steady(), codec="libsvtav1", options=AV1),
    clip("av1.mkv", "AV1 in Matroska", steady(), codec="libsvtav1", options=AV1),
    everyday("mpeg4_avi", "MPEG-4 part 2 in AVI, which stores no pts", steady(LONG), finer=SHARP),
    clip("mpeg4_b_frames.mp4", "MPEG-4 part 2 with B-frames", steady(), codec="mpeg4", options=SHARP | {"bf": "2"}),
    clip(
        "mpeg2.ts",
        "MPEG-2 with B-frames in MPEG-TS",
        steady(start=Fraction(1, 30)),
        codec="mpeg2video",
        options=SHARP | {"bf": "2"},
    ),
    clip("mpeg1.mkv", "MPEG-1 with B-frames", steady(), codec="mpeg1video", options=SHARP | {"bf": "2"}),
    everyday("mjpeg_mov", "Motion JPEG, full range", steady(LONG, colour_error=4), finer=SHARP, look=FULL),
    clip("prores.mov", "ProRes, 10 bits, 4:2:2", steady(colour_error=3), codec="prores_ks", pixel_format="yuv422p10le"),
    clip(
        "dnxhr.mov",
        "DNxHR",
        steady(size=(144, 256), colour_error=3),
        codec="dnxhd",
        pixel_format="yuv422p",
        size=(144, 256),
        look=tagged("bt709"),
        options={"profile": "dnxhr_hq"},
    ),
    clip("ffv1.mkv", "FFV1, lossless", steady(colour_error=3), codec="ffv1"),
    clip("huffyuv.avi", "HuffYUV, lossless", steady(colour_error=3), codec="huffyuv", pixel_format="yuv422p"),
    clip("raw.avi", "frames without compression", steady(colour_error=3), codec="rawvideo"),
    clip("png.mov", "PNG frames in MOV", steady(colour_error=1), codec="png", pixel_format="rgb24"),
    clip("wmv2.wmv", "Windows Media Video in ASF", steady(), codec="wmv2", options=SHARP),
    clip("h263.3gp", "H.263 in 3GP", steady(size=(144, 176)), codec="h263", size=(144, 176), options=SHARP),
    clip(
        "dv.dv",
        "DV, interlaced, 4:1:1",
        steady(rate=Fraction(30000, 1001), size=(480, 720), colour_error=3),
        codec="dvvideo",
        pixel_format="yuv411p",
        size=(480, 720),
        time_base=Fraction(1001, 30000),
    ),
)
