"""Matroska and WebM files whose elements lie."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from functools import partial

from tests.damage.clips import Clip
from tests.damage.edits import body, insert_before, lie_about_length, nest, put, put_each, replace_body
from tests.damage.elements import UNKNOWN_SIZE, one, read_elements, vint
from tests.damage.lies_mp4 import Lie

_TRACK = "Segment/Tracks/TrackEntry"
_BLOCK = "Segment/Cluster/SimpleBlock"


def _duration(value: float) -> Lie:
    return lambda clip: put(clip, "Segment/Info/Duration", 0, struct.pack(">d", value))


def _number(path: str, value: int, size: int, which: int = 0) -> Lie:
    return lambda clip: replace_body(clip, path, value.to_bytes(size, "big"), which=which)


def _length(path: str, length: int, which: int = 0) -> Lie:
    return partial(lie_about_length, path=path, length=length, which=which)


def _element(kind: str, content: bytes) -> bytes:
    return bytes.fromhex(kind) + vint(len(content), 4) + content


def _codec(name: bytes) -> Lie:
    return lambda clip: replace_body(clip, f"{_TRACK}/CodecID", name)


def _add_to_track(new: bytes) -> Lie:
    return lambda clip: insert_before(clip, f"{_TRACK}/CodecID", new)


def _encoding(algorithm: int, settings: bytes = b"") -> bytes:
    """ContentEncodings of one compression: 0 zlib, 1 bzlib, 2 lzo, 3 header stripping."""
    compression = _element("5034", _element("4254", bytes([algorithm])) + _element("4255", settings))
    return _element("6d80", _element("6240", compression))


def _bomb(clip: Clip) -> bytes:
    """A block of 64 kB that unpacks to 64 MB."""
    block = body(clip, _BLOCK, which=3)[:4] + zlib.compress(bytes(64 << 20), 9)
    data = replace_body(clip, _BLOCK, block, which=3)
    changed = replace(clip, data=data, elements=read_elements("mkv", data))
    return _add_to_track(_encoding(0))(changed)


def _laced(clip: Clip) -> bytes:
    """All blocks say that they hold 256 frames, of sizes that are garbage."""
    return put_each(clip, _BLOCK, 3, b"\x86\xff\xff\xff\xff")


def _nested(kind: str, *around: str) -> Lie:
    new = nest(bytes.fromhex(kind), 20_000, container="mkv")
    for holder in reversed(around):
        new = _element(holder, new)
    return lambda clip: insert_before(clip, "Segment/Tracks", new)


def _many_tracks(clip: Clip) -> bytes:
    track = one(clip.elements, _TRACK)
    return insert_before(clip, _TRACK, clip.data[track.start : track.stop] * 3000)


def _own_start(path: str) -> Lie:
    """Every cue points at an element of this path."""

    def lie(clip: Clip) -> bytes:
        place = one(clip.elements, path).start - one(clip.elements, "Segment").body
        data = bytearray(clip.data)
        for element in clip.elements:
            if element.name in ("CueClusterPosition", "SeekPosition"):
                size = element.stop - element.body
                data[element.body : element.stop] = place.to_bytes(8, "big")[-size:]
        return bytes(data)

    return lie


HEADERS: dict[str, Lie] = {
    "duration_nan": _duration(float("nan")),
    "duration_infinite": _duration(float("inf")),
    "duration_negative": _duration(-1e18),
    "duration_huge": _duration(1e300),
    "timescale_zero": _number("Segment/Info/TimestampScale", 0, 3),
    "timescale_one": _number("Segment/Info/TimestampScale", 1, 3),
    "timescale_most": _number("Segment/Info/TimestampScale", (1 << 64) - 1, 8),
    "width_100000": _number(f"{_TRACK}/Video/PixelWidth", 100_000, 4),
    "width_and_height_most": lambda clip: put_each(clip, f"{_TRACK}/Video/PixelWidth", 0, b"\xff"),
    "height_zero": _number(f"{_TRACK}/Video/PixelHeight", 0, 1),
    "height_negative": _number(f"{_TRACK}/Video/PixelHeight", (1 << 64) - 5, 8),
    "default_duration_zero": _number(f"{_TRACK}/DefaultDuration", 0, 4),
    "default_duration_most": _number(f"{_TRACK}/DefaultDuration", (1 << 63) - 1, 8),
    "cluster_time_most": _number("Segment/Cluster/Timestamp", (1 << 64) - 1, 8),
    "cluster_time_far": _number("Segment/Cluster/Timestamp", 1 << 60, 8, which=2),
    "cluster_times_zero": lambda clip: put_each(clip, "Segment/Cluster/Timestamp", 0, b"\0"),
    "cues_to_themselves": _own_start("Segment/Cues"),
    "cues_to_the_tracks": _own_start("Segment/Tracks"),
    "cues_to_the_start": _own_start("Segment/SeekHead"),
    "length_segment_unknown": _length("Segment", UNKNOWN_SIZE),
    "length_segment_most": _length("Segment", (1 << 56) - 2),
    "length_segment_zero": _length("Segment", 0),
    "length_cluster_unknown": _length("Segment/Cluster", UNKNOWN_SIZE, which=1),
    "length_cluster_short": _length("Segment/Cluster", 20, which=1),
    "length_cluster_most": _length("Segment/Cluster", (1 << 14) - 2, which=1),
    "length_tracks_most": _length("Segment/Tracks", (1 << 14) - 2),
    "length_track_unknown": _length(_TRACK, UNKNOWN_SIZE),
    "block_over_others": lambda clip: insert_before(clip, _BLOCK, b"\xa3" + vint(9000, 4) + b"\x81", which=5),
    "length_block_zero": _length(_BLOCK, 0, which=4),
    "length_info_unknown": _length("Segment/Info", UNKNOWN_SIZE),
    "length_ebml_zero": _length("EBML", 0),
    "block_2_gb": lambda clip: insert_before(clip, _BLOCK, b"\xa3" + vint(0x7FFFFFF0, 8), which=5),
    "block_exabytes": lambda clip: insert_before(clip, _BLOCK, b"\xa3" + vint((1 << 56) - 2, 8), which=5),
    "extradata_2_gb": _add_to_track(bytes.fromhex("63a2") + vint(0x7FFFFFF0, 8)),
    "extradata_garbage": _add_to_track(_element("63a2", b"\x01" + bytes(range(256)) * 4)),
    "extradata_256_mb_claimed": _add_to_track(bytes.fromhex("63a2") + vint(0x0FFFFFF0, 8)),
    "void_exabytes": lambda clip: insert_before(clip, "Segment/Tracks", b"\xec" + vint((1 << 56) - 2, 8)),
    "blocks_of_no_track": lambda clip: put_each(clip, _BLOCK, 0, b"\xff"),
    "blocks_laced": _laced,
    "codec_hevc": _codec(b"V_MPEGH/ISO/HEVC"),
    "codec_raw": _codec(b"V_UNCOMPRESSED"),
    "codec_quicktime": _codec(b"V_QUICKTIME"),
    "codec_vfw": _codec(b"V_MS/VFW/FOURCC"),
    "codec_prores": _codec(b"V_PRORES"),
    "codec_nobody_knows": _codec(b"V_ZZZ"),
    "encoding_zlib": _add_to_track(_encoding(0)),
    "encoding_bomb": _bomb,
    "encoding_lzo": _add_to_track(_encoding(2)),
    "encoding_one_mb_before_each": _add_to_track(_encoding(3, bytes(1 << 20))),
    "nested_tags": _nested("67c8"),
    "nested_chapters": _nested("b6", "1043a770", "45b9"),
    "nested_simple_tags": _nested("67c8", "1254c367", "7373"),
    "nested_segments": _nested("18538067"),
    "nested_clusters": _nested("1f43b675"),
    "many_tracks": _many_tracks,
}  # fmt: skip
