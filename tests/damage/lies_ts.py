"""MPEG transport streams whose tables, times and lengths lie; checksums are right."""

from __future__ import annotations

from collections.abc import Callable

from tests.damage.clips import Clip
from tests.damage.elements import TS_PACKET
from tests.damage.lies_mp4 import Lie

_PAT, _MAP, _VIDEO = 0, 4096, 256


def crc32_mpeg(data: bytes) -> int:
    """The checksum of a section."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def _sections(pid: int, change: Callable[[bytearray], None]) -> Lie:
    """Each section of a table changed, and its checksum made anew. The section begins with its table id."""

    def lie(clip: Clip) -> bytes:
        data = bytearray(clip.data)
        for element in clip.elements:
            if element.path == str(pid) and data[element.start + 1] & 0x40:
                start = element.body + 1 + data[element.body]
                size = 3 + (int.from_bytes(data[start + 1 : start + 3], "big") & 0xFFF)
                section = data[start : start + size]
                change(section)
                section[-4:] = crc32_mpeg(bytes(section[:-4])).to_bytes(4, "big")
                data[start : start + size] = section
        return bytes(data)

    return lie


def _set(place: int, new: bytes) -> Callable[[bytearray], None]:
    def change(section: bytearray) -> None:
        section[place : place + len(new)] = new

    return change


def _video_starts(change: Callable[[bytearray, int], None]) -> Lie:
    """The PES headers of the video changed: `change` gets all bytes and where a header begins."""

    def lie(clip: Clip) -> bytes:
        data = bytearray(clip.data)
        for element in clip.elements:
            if element.path == str(_VIDEO) and data[element.start + 1] & 0x40:
                start = data.find(b"\0\0\1", element.start + 4, element.stop)
                if start >= 0:
                    change(data, start)
        return bytes(data)

    return lie


def _pes(offset: int, new: bytes) -> Lie:
    def change(data: bytearray, start: int) -> None:
        data[start + offset : start + offset + len(new)] = new

    return _video_starts(change)


def _time(value: int) -> bytes:
    """A time stamp as PES headers have it, without a dts."""
    parts = (0x21 | value >> 29 & 14, value >> 22 & 255, value >> 14 & 254 | 1, value >> 7 & 255, value << 1 & 254 | 1)
    return bytes(parts)


def _packets(change: Callable[[bytearray, int, int], None]) -> Lie:
    """Each packet of the video but the first ones: `change` gets all bytes, its start and its number."""

    def lie(clip: Clip) -> bytes:
        data = bytearray(clip.data)
        for number, element in enumerate(e for e in clip.elements if e.path == str(_VIDEO)):
            if number > 5:
                change(data, element.start, number)
        return bytes(data)

    return lie


def _scramble(data: bytearray, start: int, number: int) -> None:
    data[start + 3] |= 0xC0


def _pad_away(data: bytearray, start: int, number: int) -> None:
    data[start + 3] |= 0x30
    data[start + 4] = 255 if number % 3 else 183


def _count_wrong(data: bytearray, start: int, number: int) -> None:
    data[start + 3] = data[start + 3] & 0xF0 | (number * 7) & 15


def _mark_errors(data: bytearray, start: int, number: int) -> None:
    data[start + 1] |= 0x80


def _many_programs(clip: Clip) -> bytes:
    """A table of programs in all packets of which each names 40 more."""
    packets = []
    for number in range(20):
        programs = b"".join(
            (number * 40 + n + 1).to_bytes(2, "big") + (0xE000 | (32 + (number * 40 + n) % 8000)).to_bytes(2, "big")
            for n in range(40)
        )
        section = b"\0" + (0xB000 | len(programs) + 9).to_bytes(2, "big") + b"\0\1\xc1\0\0" + programs
        section += crc32_mpeg(section).to_bytes(4, "big")
        packets.append((b"\x47\x40\0" + bytes([0x10 | number & 15]) + b"\0" + section).ljust(TS_PACKET, b"\xff"))
    return clip.data[: 3 * TS_PACKET] + b"".join(packets) + clip.data[3 * TS_PACKET :]


def _longer_packets(clip: Clip) -> bytes:
    """From the 51st packet on each has four bytes before it, as cameras and discs write them."""
    start = 50 * TS_PACKET
    rest = (bytes(4) + clip.data[place : place + TS_PACKET] for place in range(start, len(clip.data), TS_PACKET))
    return clip.data[:start] + b"".join(rest)


HEADERS: dict[str, Lie] = {
    "pat_to_itself": _sections(_PAT, _set(10, b"\xe0\x00")),
    "pat_to_the_video": _sections(_PAT, _set(10, b"\xe1\x00")),
    "pat_length_most": _sections(_PAT, _set(1, b"\xbf\xfd")),
    "pat_many_programs": _many_programs,
    "pmt_length_most": _sections(_MAP, _set(1, b"\xbf\xfd")),
    "pmt_clock_nowhere": _sections(_MAP, _set(8, b"\xff\xff")),
    "pmt_descriptors_most": _sections(_MAP, _set(10, b"\xff\xff")),
    "pmt_stream_descriptors_most": _sections(_MAP, _set(15, b"\xff\xff")),
    "pmt_video_in_itself": _sections(_MAP, _set(13, b"\xf0\x00")),
    **{
        f"pmt_type_{kind:02x}": _sections(_MAP, _set(12, bytes([kind])))
        for kind in (0x01, 0x02, 0x03, 0x06, 0x0F, 0x10, 0x1B, 0x24, 0x33, 0x42, 0xD1, 0xEA, 0x86)
    },
    "pes_length_one": _pes(4, b"\0\1"),
    "pes_length_most": _pes(4, b"\xff\xff"),
    "pes_header_most": _pes(8, b"\xff"),
    "pes_other_stream": _pes(3, b"\xbe"),
    "pes_no_times": _pes(7, b"\0"),
    "times_all_the_same": _pes(7, b"\x80\x05" + _time(90_000)),
    "times_last": _pes(7, b"\x80\x05" + _time((1 << 33) - 1)),
    "packets_scrambled": _packets(_scramble),
    "packets_padded_away": _packets(_pad_away),
    "packets_miscounted": _packets(_count_wrong),
    "packets_marked_wrong": _packets(_mark_errors),
    "packets_of_192_bytes_later": _longer_packets,
}
