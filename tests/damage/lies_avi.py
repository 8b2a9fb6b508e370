"""AVI files whose headers and index lie."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from tests.damage.clips import Clip
from tests.damage.edits import body, insert_before, lie_about_length, nest, put, replace_body
from tests.damage.elements import one
from tests.damage.lies_mp4 import Lie

_STREAM = "AVI/hdrl/strl"
_MOST = 0xFFFFFFFF
_CODECS = {
    "raw": b"DIB ", "mjpeg": b"MJPG", "h264": b"H264", "cinepak": b"cvid", "indeo": b"IV50", "huffyuv": b"HFYU",
    "ffv1": b"FFV1", "techsmith": b"tscc", "video1": b"MSVC", "none": bytes(4),
}  # fmt: skip


def _put(path: str, offset: int, *values: int) -> Lie:
    new = b"".join((value & _MOST).to_bytes(4, "little") for value in values)
    return lambda clip: put(clip, path, offset, new)


def _length(path: str, length: int, which: int = 0) -> Lie:
    return partial(lie_about_length, path=path, length=length, which=which)


def _entries(change: Callable[[bytes, int, int, int], tuple[bytes, int, int, int]]) -> Lie:
    """The index with each entry (chunk, flags, offset, size) made anew."""

    def lie(clip: Clip) -> bytes:
        old = body(clip, "AVI/idx1")
        entries = [struct.unpack("<4sIII", old[place : place + 16]) for place in range(0, len(old) - 15, 16)]
        return put(clip, "AVI/idx1", 0, b"".join(struct.pack("<4sIII", *change(*entry)) for entry in entries))

    return lie


def _super_index(clip: Clip) -> bytes:
    """An OpenDML index whose entries point at where it stands itself."""
    place = one(clip.elements, f"{_STREAM}/JUNK").start
    head = struct.pack("<HBBI4s12x", 4, 0, 0, 1000, b"00dc")
    entries = struct.pack("<QII", place, 32, 60) * 200
    return put(clip, f"{_STREAM}/JUNK", -8, b"indx" + struct.pack("<I", 3200 + 24) + head + entries)


HEADERS: dict[str, Lie] = {
    "frames_million": _put("AVI/hdrl/avih", 16, 1_000_000),
    "frames_most": _put("AVI/hdrl/avih", 16, _MOST),
    "streams_thousand": _put("AVI/hdrl/avih", 24, 1000),
    "microseconds_zero": _put("AVI/hdrl/avih", 0, 0),
    "avih_size_most": _put("AVI/hdrl/avih", 32, _MOST, _MOST),
    "scale_zero": _put(f"{_STREAM}/strh", 20, 0),
    "rate_zero": _put(f"{_STREAM}/strh", 24, 0),
    "scale_and_rate_most": _put(f"{_STREAM}/strh", 20, _MOST, _MOST),
    "scale_most": _put(f"{_STREAM}/strh", 20, _MOST, 1),
    "starts_late": _put(f"{_STREAM}/strh", 28, 0x7FFFFFFF),
    "length_most": _put(f"{_STREAM}/strh", 32, _MOST),
    "length_zero": _put(f"{_STREAM}/strh", 32, 0),
    "sample_size_one": _put(f"{_STREAM}/strh", 44, 1),
    "sample_size_most": _put(f"{_STREAM}/strh", 44, _MOST),
    "width_100000": _put(f"{_STREAM}/strf", 4, 100_000, 100_000),
    "height_negative": _put(f"{_STREAM}/strf", 8, -100_000),
    "size_negative": _put(f"{_STREAM}/strf", 4, -96, -72),
    "size_zero": _put(f"{_STREAM}/strf", 4, 0, 0),
    "header_size_zero": _put(f"{_STREAM}/strf", 0, 0),
    "header_size_most": _put(f"{_STREAM}/strf", 0, _MOST),
    "bits_65535": lambda clip: put(clip, f"{_STREAM}/strf", 14, b"\xff\xff"),
    "riff_length_zero": _length("AVI", 0),
    "riff_length_most": _length("AVI", _MOST),
    "hdrl_length_zero": _length("AVI/hdrl", 0),
    "hdrl_length_most": _length("AVI/hdrl", _MOST),
    "strl_length_most": _length(_STREAM, _MOST),
    "strf_length_most": _length(f"{_STREAM}/strf", _MOST),
    "strf_length_tiny": _length(f"{_STREAM}/strf", 5),
    "movi_length_zero": _length("AVI/movi", 0),
    "movi_length_most": _length("AVI/movi", _MOST),
    "chunk_length_most": _length("AVI/movi/00dc", _MOST, which=7),
    "chunk_length_2_gb": _length("AVI/movi/00dc", 0x7FFFFFF0, which=7),
    "chunk_length_zero": _length("AVI/movi/00dc", 0, which=7),
    "index_length_most": _length("AVI/idx1", _MOST),
    "index_to_itself": _entries(lambda chunk, flags, place, size: (chunk, flags, 4, size)),
    "index_behind_the_end": _entries(lambda chunk, flags, place, size: (chunk, flags, _MOST, size)),
    "index_sizes_most": _entries(lambda chunk, flags, place, size: (chunk, flags, place, _MOST)),
    "index_other_stream": _entries(lambda chunk, flags, place, size: (b"77dc", flags, place, size)),
    "index_without_i_frames": _entries(lambda chunk, flags, place, size: (chunk, 0, place, size)),
    "index_of_a_million": lambda clip: replace_body(clip, "AVI/idx1", body(clip, "AVI/idx1")[:16] * 1_000_000),
    "index_super_to_itself": _super_index,
    "nested_lists": lambda clip: insert_before(clip, f"{_STREAM}/strh", nest(b"strl", 20_000, container="avi")),
    "nested_movi": lambda clip: insert_before(clip, "AVI/movi/00dc", nest(b"rec ", 20_000, container="avi")),
    "many_streams": lambda clip: insert_before(clip, _STREAM, _stream(clip) * 500),
    **{f"codec_{name}": lambda clip, tag=tag: put(clip, f"{_STREAM}/strf", 16, tag) for name, tag in _CODECS.items()},
}


def _stream(clip: Clip) -> bytes:
    stream = one(clip.elements, _STREAM)
    return clip.data[stream.start : stream.stop]
