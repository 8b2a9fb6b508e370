"""Streams: what stands beside the video, which of several is taken, and what cannot be decoded."""

from __future__ import annotations

from fractions import Fraction

import av

from tests.zoo.changing import replaced, scrambled, then, with_chapter_track
from tests.zoo.exhibit import Exhibit, Frames, Refused, steady
from tests.zoo.making import B_FRAMES, TWO_FRAMES, clip, everyday, video
from tests.zoo.several import Add, packets, pictures, silence, streams

_KEY = "0123456789abcdef0123456789abcdef"
_UNKNOWN = Refused(message="the file has a video stream in a codec that FFmpeg cannot decode")
_FIRST_COUNTS = "the first video stream is taken"
_COVER = av.stream.Disposition.attached_pic


def _of(file: str, shows: str, expect: Frames, *adds: Add, happens: str = "") -> Exhibit:
    return Exhibit(file=file, shows=shows, make=streams(*adds), expect=expect, happens=happens)


def _pictures(**arguments) -> Add:
    return pictures(codec="mjpeg", options=None, pixel_format="yuvj420p", time_base=Fraction(1), **arguments)


def _without_decoder(file: str, old: bytes, new: bytes) -> Exhibit:
    make = then(video(options=B_FRAMES), replaced(old, new))
    return Exhibit(file=file, shows="a codec that nobody knows", make=make, expect=_UNKNOWN)


STREAMS = (
    everyday("audio_first_mp4", "sound before the video", steady(110)),
    _of("subtitles.mkv", "subtitles before the video", steady(), packets("subrip", b"one", b"two"), pictures()),
    _of(
        "data.ts",
        "data before the video",
        steady(start=TWO_FRAMES),
        packets("klv", bytes(24), is_data=True),
        pictures(),
    ),
    _of(
        "cover.mp4",
        "a cover picture before the video",
        steady(),
        _pictures(numbers=(999,), disposition=_COVER),
        pictures(),
        happens="cover pictures are no video",
    ),
    Exhibit(
        file="chapters.mov",
        shows="pictures of chapters before the video",
        make=then(streams(_pictures(numbers=(500, 501, 502), size=(36, 48)), pictures()), with_chapter_track),
        expect=steady(),
        happens="pictures of chapters are no video",
    ),
    _of(
        "two_videos.mp4",
        "two video streams",
        steady(),
        pictures(),
        pictures(range(100, 124), size=(144, 192)),
        happens=_FIRST_COUNTS,
    ),
    _of(
        "two_videos.ts",
        "two video streams in MPEG-TS",
        steady(start=TWO_FRAMES),
        pictures(),
        pictures(range(100, 124), size=(144, 192)),
        happens=_FIRST_COUNTS,
    ),
    _of(
        "late_video.mkv",
        "a video that begins a second after the sound",
        steady(start=1),
        silence(2),
        pictures(first_pts=30),
    ),
    _of("late_video.mp4", "the same in MP4", steady(start=1), silence(2), pictures(first_pts=30)),
    clip(
        "encrypted.mp4",
        "encrypted frames (CENC)",
        Refused(message="the video is encrypted; decrypt it first"),
        options=B_FRAMES,
        container_options={"encryption_scheme": "cenc-aes-ctr", "encryption_key": _KEY, "encryption_kid": _KEY},
    ),
    Exhibit(
        file="scrambled.ts",
        shows="scrambled packets",
        make=then(video(options=B_FRAMES), scrambled),
        expect=Refused(message="no frame can be decoded; record or copy it again"),
    ),
    _without_decoder("unknown.mp4", b"avc1" + bytes(6), b"zzzz" + bytes(6)),
    _without_decoder("unknown.mkv", b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ZZZ"),
)
