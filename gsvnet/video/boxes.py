"""The boxes of an MP4 file: each has a length, a kind of four letters and a body, which may hold further boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from gsvnet.video.source import MediaFile

_MOST_IN_A_BOX = 10_000


@dataclass(frozen=True)
class Box:
    """One box. start: of its header; body: behind that; stop: behind its end, in bytes, at most the file's size.

    length: that it claims, 0 where it goes on to the end of what holds it.
    """

    kind: bytes
    start: int
    body: int
    stop: int
    length: int


def read_boxes(source: MediaFile, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """The boxes one after the other from `start`; they end before one whose length cannot be."""
    stop = source.size if stop is None else stop
    while start + 8 <= stop:
        header = source.read_at(start, 16)
        length, body = int.from_bytes(header[:4], "big"), start + 8
        if length == 1:
            length, body = int.from_bytes(header[8:16], "big"), start + 16
        end = stop if length == 0 else start + length
        if end < body:
            return
        yield Box(header[4:8], start, body, min(end, source.size), length)
        start = end


def read_number(source: MediaFile, at: int) -> int:
    """The four bytes at this place as a number, as boxes have them."""
    return int.from_bytes(source.read_at(at, 4), "big")


def find_boxes(source: MediaFile, *path: bytes, inside: Box | None = None) -> Iterator[Box]:
    """The boxes at this path, such as moov, trak, mdia; inside: a box, None: the file. Of each box the first 10,000."""
    within = (0, None) if inside is None else (inside.body, inside.stop)
    for box in islice(read_boxes(source, *within), _MOST_IN_A_BOX):
        if box.kind == path[0]:
            if len(path) == 1:
                yield box
            else:
                yield from find_boxes(source, *path[1:], inside=box)
