"""Streams that claim pictures of a size nobody has memory for, from the start on or from the middle on."""

from __future__ import annotations

import io
from collections.abc import Callable

import av

from tests.damage.clips import Clip
from tests.damage.lies_mp4 import Lie, change_configuration

_LATER = 30  # the frame from which on pictures are larger, where that is not all of them
_NAL_START = b"\0\0\0\1"


class Bits:
    """Reads a bit string, and remembers where it is."""

    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.place = 0

    def read(self, count: int) -> int:
        self.place += count
        return int(self.text[self.place - count : self.place] or "0", 2)

    def read_code(self) -> int:
        """An unsigned Exp-Golomb code."""
        zeros = self.text.index("1", self.place) - self.place
        self.place += zeros
        return self.read(zeros + 1) - 1

    def replaced(self, start: int, stop: int, new: str) -> bytes:
        """All bytes, with other bits between two places."""
        text = self.text[:start] + new + self.text[stop:]
        text = text.rstrip("0").ljust(-(-len(text.rstrip("0")) // 8) * 8, "0")
        return int(text, 2).to_bytes(len(text) // 8, "big")


def _code(value: int) -> str:
    text = f"{value + 1:b}"
    return "0" * (len(text) - 1) + text


def enlarge_h264(unit: bytes, width: int, height: int) -> bytes:
    """A sequence parameter set of H.264 (High profile, 4:2:0) with another size, in pixels."""
    bits = Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.read(8)
    bits.read(16)
    bits.read_code()
    if profile >= 100:
        for _ in range(3):
            bits.read_code()
        bits.read(2)  # no transform bypass, no scaling lists
    bits.read_code()
    if bits.read_code() == 0:
        bits.read_code()
    bits.read_code()
    bits.read(1)
    start = bits.place
    bits.read_code(), bits.read_code()
    return unit[:1] + _protect(bits.replaced(start, bits.place, _code(width // 16 - 1) + _code(height // 16 - 1)))


def enlarge_hevc(unit: bytes, width: int, height: int) -> bytes:
    """A sequence parameter set of HEVC (one layer, 4:2:0) with another size, in pixels."""
    bits = Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    bits.read(8 + 96)
    bits.read_code(), bits.read_code()
    start = bits.place
    bits.read_code(), bits.read_code()
    return unit[:2] + _protect(bits.replaced(start, bits.place, _code(width) + _code(height)))


def _protect(data: bytes) -> bytes:
    """With the bytes that keep start codes out of a unit."""
    out, zeros = bytearray(), 0
    for byte in data:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def _units(data: bytes) -> list[bytes]:
    """NAL units between start codes."""
    return [unit for unit in data.replace(_NAL_START, b"\0\0\1").split(b"\0\0\1") if unit]


def _find_set(data: bytes, codec: str) -> bytes:
    """The sequence parameter set in an avcC or hvcC, or between start codes."""
    is_set = (lambda u: u[0] & 31 == 7) if codec == "h264" else (lambda u: u[0] >> 1 & 63 == 33)
    if data[:1] != b"\x01":
        return next(unit for unit in _units(data) if is_set(unit))
    place = 6 if codec == "h264" else 23
    if codec == "h264":
        return data[place + 2 : place + 2 + int.from_bytes(data[place : place + 2], "big")]
    while True:
        count = int.from_bytes(data[place + 1 : place + 3], "big")
        place += 3
        for _ in range(count):
            size = int.from_bytes(data[place : place + 2], "big")
            unit = data[place + 2 : place + 2 + size]
            if is_set(unit):
                return unit
            place += 2 + size


def _enlarge(unit: bytes, codec: str, width: int, height: int) -> bytes:
    return (enlarge_h264 if codec == "h264" else enlarge_hevc)(unit, width, height)


def from_the_start(width: int, height: int) -> Lie:
    """In the container's own copy of the parameters (MP4), else in front of the first packet."""

    def lie(clip: Clip) -> bytes:
        if clip.container != "mp4":
            return _remux(clip, lambda n, data, old: _with_set(clip, data, old, width, height))

        def change(old: bytes) -> bytes:
            unit = _find_set(old, clip.codec)
            new = _enlarge(unit, clip.codec, width, height)
            return old.replace(len(unit).to_bytes(2, "big") + unit, len(new).to_bytes(2, "big") + new)

        return change_configuration(change)(clip)

    return lie


def from_the_middle(width: int, height: int) -> Lie:
    """A parameter set in front of every packet from frame 30 on."""

    def change(clip: Clip, number: int, data: bytes, extradata: bytes) -> bytes:
        return data if number < _LATER else _with_set(clip, data, extradata, width, height)

    return lambda clip: _remux(clip, lambda number, data, old: change(clip, number, data, old))


def _with_set(clip: Clip, data: bytes, extradata: bytes, width: int, height: int) -> bytes:
    """The packet with a set of its own: before all else, with a length or a start code as the others."""
    new = _enlarge(_find_set(extradata, clip.codec), clip.codec, width, height)
    if extradata[:1] == b"\x01":
        return len(new).to_bytes(4, "big") + new + data
    old = _find_set(extradata, clip.codec)
    if old in data:
        return data.replace(old, new)
    return _NAL_START + new + data


def _remux(clip: Clip, change: Callable[[int, bytes, bytes], bytes]) -> bytes:
    """The packets in a new container of the same kind; change(number, data, extradata) makes them."""
    file, suffix = io.BytesIO(), clip.path.suffix
    form = {".ts": "mpegts", ".mkv": "matroska", ".mp4": "mp4", ".webm": "webm"}[suffix]
    with av.open(str(clip.path)) as source, av.open(file, "w", format=form) as sink:
        stream = source.streams.video[0]
        copy = sink.add_stream_from_template(stream)
        extradata = bytes(stream.codec_context.extradata or b"")
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            new = av.Packet(change(number, bytes(packet), extradata))
            new.pts, new.dts, new.time_base, new.stream = packet.pts, packet.dts, packet.time_base, copy
            new.is_keyframe = packet.is_keyframe
            sink.mux(new)
    return file.getvalue()


def vp9_sizes(first: int) -> Lie:
    """65536 x 65536 in the header of every I-frame from a packet on: the last 32 bits before the frame's flags."""

    def lie(clip: Clip) -> bytes:
        data = bytearray(clip.data)
        for packet in clip.packets[first:]:
            start = packet.stop - packet.size
            if data[start + 1 : start + 4] == b"\x49\x83\x42":
                bits = Bits(bytes(data[start : start + 12]))
                size_at = 8 + 24 + 3 + 1
                data[start : start + 12] = bits.replaced(size_at, size_at + 32, "1" * 32).ljust(12, b"\0")
        return bytes(data)

    return lie


def jpeg_sizes(first: int, height: int = 65535, width: int = 65535) -> Lie:
    """Another size in every picture from one on."""

    def lie(clip: Clip) -> bytes:
        data = bytearray(clip.data)
        for packet in clip.packets[first:]:
            place = data.index(b"\xff\xc0", packet.start) + 5
            data[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        return bytes(data)

    return lie


def mpeg4_sizes(first: int) -> Lie:
    """8191 x 8191, the most that MPEG-4 can say, in every header of the stream from a packet on."""

    def lie(clip: Clip) -> bytes:
        data = bytearray(clip.data)
        for packet in clip.packets[first:]:
            start = data.find(b"\0\0\1\x20", packet.start, packet.stop) + 4
            if start >= 4:
                bits = Bits(bytes(data[start : start + 24]))
                bits.read(9)
                if bits.read(1):
                    bits.read(7)
                if bits.read(4) == 15:
                    bits.read(16)
                if bits.read(1):
                    bits.read(3)
                    assert not bits.read(1), "as FFmpeg writes it"
                bits.read(3)
                ticks = bits.read(16)
                bits.read(1)
                if bits.read(1):
                    bits.read(max(1, (ticks - 1).bit_length()))
                bits.read(1)
                size = "1" * 13 + "1" + "1" * 13
                changed = bits.text[: bits.place] + size + bits.text[bits.place + len(size) :]
                data[start : start + 24] = int(changed, 2).to_bytes(24, "big")
        return bytes(data)

    return lie
