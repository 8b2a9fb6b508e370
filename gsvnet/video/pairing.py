"""Matching a decoder's frames to the packets that went in: each once, in display order, the lost ones named."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

import av

from gsvnet.errors import DecodeError

# No codec here reorders further than this; it bounds memory where a file's dts lag far behind its pts.
MAX_REORDERED = 16


@dataclass(frozen=True)
class Event:
    """What decoding saw next: a packet (frame is None; dts as far as known) or a decoded frame."""

    pts: int
    dts: int | None
    frame: av.VideoFrame | None


def pair_frames(
    events: Iterable[Event], start_pts: int, end_pts: int | None, name: str
) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Match decoded frames to the packets of [start_pts, end_pts): one result per distinct pts, ascending.

    Packets say which frames exist, the decoder says which it could make. A frame waits until no packet with an
    earlier pts can follow, which is certain once the packets' dts has reached its pts.
    """
    expected: list[int] = []  # heap: pts of packets not yet handed on
    known: set[int] = set()
    waiting: list[tuple[int, int, av.VideoFrame]] = []  # heap by pts; the count keeps frames uncompared
    handed_on = start_pts - 1
    dts: int | None = None
    for count, event in enumerate(events):
        if event.frame is not None:
            heapq.heappush(waiting, (event.pts, count, event.frame))
        else:
            dts = event.dts
            if start_pts <= event.pts and (end_pts is None or event.pts < end_pts) and event.pts not in known:
                if event.pts < handed_on:
                    raise DecodeError("frames are stored too far out of order; remux the file", uri=name, pts=event.pts)
                known.add(event.pts)
                heapq.heappush(expected, event.pts)
        while waiting and (dts is None or dts >= waiting[0][0] or len(waiting) > MAX_REORDERED):
            pts, _, frame = heapq.heappop(waiting)
            if end_pts is not None and pts >= end_pts:
                yield from _lost(expected, end_pts)
                return
            yield from _hand_on(expected, pts, frame)
            handed_on = max(handed_on, pts)
    for pts, _, frame in sorted(waiting, key=itemgetter(0, 1)):
        yield from _hand_on(expected, pts, frame)
    yield from _lost(expected, None)


def _hand_on(expected: list[int], pts: int, frame: av.VideoFrame) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """The frame, after the lost ones before it; nothing for a frame outside the range or a second one with its pts."""
    yield from _lost(expected, pts)
    if expected and expected[0] == pts:
        heapq.heappop(expected)
        yield pts, frame


def _lost(expected: list[int], before_pts: int | None) -> Iterator[tuple[int, None]]:
    """Packets that stayed without a frame. Decoders give frames out in display order, so none can come any more."""
    while expected and (before_pts is None or expected[0] < before_pts):
        yield heapq.heappop(expected), None
