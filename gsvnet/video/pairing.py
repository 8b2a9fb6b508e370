"""Matching a decoder's frames to the packets that went in: each once, in display order, the lost ones named."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

from gsvnet.errors import DecodeError
from gsvnet.video.damage import Picture

# No codec here reorders further than this; it bounds memory where a file's dts lag far behind its pts.
MAX_REORDERED = 16


@dataclass(frozen=True)
class Event:
    """What decoding saw next: a packet (picture is None; dts as far as known) or a decoded frame."""

    pts: int
    dts: int | None
    picture: Picture | None


def pair_frames(events: Iterable[Event], start_pts: int, name: str) -> Iterator[Picture]:
    """Match decoded frames to the packets from start_pts on: one picture per distinct pts, ascending.

    Packets say which frames exist, the decoder says which it could make. A frame waits until no packet with an
    earlier pts can follow, which is certain once the packets' dts has reached its pts.
    """
    expected: list[int] = []  # heap: pts of packets not yet handed on
    known: set[int] = set()
    waiting: list[tuple[int, int, Picture]] = []  # heap by pts; the count keeps pictures uncompared
    handed_on = start_pts - 1
    dts: int | None = None
    for count, event in enumerate(events):
        if event.picture is not None:
            heapq.heappush(waiting, (event.pts, count, event.picture))
        else:
            dts = event.dts
            if start_pts <= event.pts and event.pts not in known:
                if event.pts < handed_on:
                    raise DecodeError("frames are stored too far out of order; remux the file", uri=name, pts=event.pts)
                known.add(event.pts)
                heapq.heappush(expected, event.pts)
        while waiting and (dts is None or dts >= waiting[0][0] or len(waiting) > MAX_REORDERED):
            pts, _, picture = heapq.heappop(waiting)
            yield from _hand_on(expected, picture)
            handed_on = max(handed_on, pts)
    for _, _, picture in sorted(waiting, key=itemgetter(0, 1)):
        yield from _hand_on(expected, picture)
    yield from _lost(expected, None)


def _hand_on(expected: list[int], picture: Picture) -> Iterator[Picture]:
    """The picture, after the lost ones before it; nothing where it is outside the range or the second of its pts."""
    yield from _lost(expected, picture.pts)
    if expected and expected[0] == picture.pts:
        heapq.heappop(expected)
        yield picture


def _lost(expected: list[int], before_pts: int | None) -> Iterator[Picture]:
    """Packets that stayed without a frame. Decoders give frames out in display order, so none can come any more."""
    while expected and (before_pts is None or expected[0] < before_pts):
        yield Picture(heapq.heappop(expected), None)
