"""Files that no encoder writes on request: edit lists, other times, joined streams, changed bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from tests.zoo.exhibit import Make

_TS_PACKET_BYTES = 188


def then(make: Make, *changes: Callable[[Path], object]) -> Make:
    """Makes a file, then changes it in place."""
    return partial(_make_then, make, changes)


def _make_then(make: Make, changes: Sequence[Callable[[Path], object]], path: Path) -> None:
    make(path)
    for change in changes:
        change(path)


def replaced(old: bytes, new: bytes) -> Callable[[Path], None]:
    """Changes bytes that stand in the file."""

    def change(path: Path) -> None:
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    return change


def written(content: bytes) -> Make:
    """Makes a file of these bytes."""
    return lambda path: path.write_bytes(content)


def edited(*edits: tuple[int, int] | tuple[int, int, float]) -> Callable[[Path], None]:
    """Replaces the edit list of an MP4 whose tables stand at its end.

    edits: duration in ms, first time of the media in ticks (-1: nothing is shown), rate of play (1).
    """

    def change(path: Path) -> None:
        entries = [struct.pack(">Iii", *edit[:2], int((edit[2:] or (1,))[0] * 65536)) for edit in edits]
        body = struct.pack(">II", 0, len(edits)) + b"".join(entries)
        path.write_bytes(_with_box(path.read_bytes(), b"elst", body, inside=(b"moov", b"trak", b"edts")))

    return change


def _with_box(content: bytes, kind: bytes, body: bytes, *, inside: Sequence[bytes]) -> bytes:
    """The file with another body for the first box of this kind; the lengths of those around it follow."""
    at = content.index(kind) - 4
    length = _number(content, at)
    changed = bytearray(content[:at] + struct.pack(">I4s", 8 + len(body), kind) + body + content[at + length :])
    for outer in inside:
        start = content.rindex(outer, 0, at) - 4
        changed[start : start + 4] = struct.pack(">I", _number(content, start) + 8 + len(body) - length)
    return bytes(changed)


def with_matrix(*matrix: int) -> Callable[[Path], None]:
    """Replaces the display matrix (9 numbers) of an MP4's first track."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        at = content.index(b"tkhd") + 4 + 40
        content[at : at + 36] = struct.pack(">9i", *matrix)
        path.write_bytes(content)

    return change


def with_chapter_track(path: Path) -> None:
    """Says that the first track of an MP4 holds pictures for chapters of the second."""
    content = path.read_bytes()
    moov = content.rindex(b"moov") - 4
    first = content.index(b"trak", moov) - 4
    second = content.index(b"trak", first + _number(content, first)) - 4
    reference = struct.pack(">I4sI4sI", 20, b"tref", 12, b"chap", 1)
    changed = bytearray(content)
    for at in (moov, second):
        changed[at : at + 4] = struct.pack(">I", _number(content, at) + len(reference))
    end = second + _number(content, second)
    path.write_bytes(bytes(changed[:end]) + reference + content[end:])


def _number(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")


def timed(*ticks: int | None, base: Fraction = Fraction(1, 1000)) -> Callable[[Path], None]:
    """Gives the packets other times, in file order, for codecs without B-frames."""

    def change(path: Path) -> None:
        original = path.rename(path.with_name(f"original_{path.name}"))
        with av.open(str(original)) as source, av.open(str(path), "w") as output:
            copy = output.add_stream_from_template(source.streams.video[0])
            packets = [packet for packet in source.demux(video=0) if packet.size]
            for packet, tick in zip(packets, ticks, strict=True):
                packet.pts = packet.dts = tick
                packet.time_base, packet.stream = base, copy
                output.mux(packet)
        original.unlink()

    return change


def joined(*makes: Make) -> Make:
    """Makes files and puts their bytes one after the other."""

    def make(path: Path) -> None:
        contents = []
        for part in makes:
            part(path)
            contents.append(path.read_bytes())
        path.write_bytes(b"".join(contents))

    return make


def renamed(suffix: str, make: Make) -> Make:
    """Makes a file under a name with this suffix, and renames it."""

    def rename(path: Path) -> None:
        first = path.with_suffix(suffix)
        make(first)
        first.rename(path)

    return rename


def without_most_pts(path: Path) -> None:
    """Takes the times from two of three video packets of an MPEG-TS file."""
    content = bytearray(path.read_bytes())
    starts = [match.start() for match in re.finditer(rb"\x00\x00\x01\xe0", content)]
    for place, start in enumerate(starts):
        if place % 3:
            content[start + 7] &= 0x3F  # no pts, no dts: what is left of the header is stuffing
            content[start + 9 : start + 9 + content[start + 8]] = b"\xff" * content[start + 8]
    path.write_bytes(content)


def scrambled(path: Path) -> None:
    """Scrambles the first video stream of an MPEG-TS file, and marks its packets as scrambled."""
    content = bytearray(path.read_bytes())
    for start in range(0, len(content), _TS_PACKET_BYTES):
        if int.from_bytes(content[start + 1 : start + 3], "big") & 0x1FFF != 0x100:
            continue
        has_adaptation = content[start + 3] & 0x20
        content[start + 3] |= 0x80
        body = start + 4 + (content[start + 4] + 1 if has_adaptation else 0)
        for place in range(body, start + _TS_PACKET_BYTES):
            content[place] ^= 0x5A
    path.write_bytes(content)
