"""Reading packets past damage: the one loop that indexing and decoding share, so both see the same frames."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from operator import attrgetter

import av
from av.container import InputContainer
from av.index import IndexEntries

from gsvnet.errors import DecodeError, VideoError
from gsvnet.uris import redact_text, redact_uri

_MAX_ERRORS_IN_A_ROW = 100
_MAX_STEP_S = 10
_NEIGHBOURS = 2  # that tell whether a time strays
_AVI_CHUNK_HEADER = 8  # bytes before a packet's own, where the index has it


def read_packets(
    container: InputContainer, stream: av.VideoStream, uri: str, errors: list[str]
) -> Iterator[av.Packet[av.VideoStream]]:
    """Every packet of the stream that carries data, in file order, going on after damage.

    A packet whose timestamps were damaged has none. What FFmpeg complained about is appended to `errors`.
    Raises DecodeError when the source itself cannot be read.
    """
    packets = _read_past_damage(container, stream, uri, errors)
    # MPEG-TS keeps each time inside the packet and unprotected; elsewhere times stand in tables or clusters.
    if container.format.name == "mpegts":
        return _clear_stray_times(packets, stream)
    return _time_by_index(packets, stream, errors) if container.format.name == "avi" else packets


def packet_pts(packet: av.Packet[av.VideoStream]) -> int | None:
    """Presentation time in ticks; dts where pts is missing (right for streams without B-frames), None without both."""
    return packet.pts if packet.pts is not None else packet.dts


def _packet_dts(packet: av.Packet[av.VideoStream]) -> int | None:
    """Decoding time in ticks; pts where dts is missing, None without both."""
    return packet.dts if packet.dts is not None else packet.pts


def _read_past_damage(
    container: InputContainer, stream: av.VideoStream, uri: str, errors: list[str]
) -> Iterator[av.Packet[av.VideoStream]]:
    errors_in_a_row = 0
    while errors_in_a_row < _MAX_ERRORS_IN_A_ROW:
        try:
            for packet in container.demux(stream):
                # Flush packets are known by size 0: the first data packets of Matroska may have no dts either.
                if packet.size:
                    errors_in_a_row = 0
                    yield packet
            return
        except av.error.FFmpegError as error:  # demuxers resynchronise: reading on is worth a try
            errors_in_a_row += 1
            errors.append(redact_text(str(error.strerror or error)))
        except IndexError:  # PyAV's, at the end of a file where damage made FFmpeg see further streams
            return
        except VideoError:  # from the source, through FFmpeg's read callback
            raise
        except Exception as error:
            reason = redact_text(f"{type(error).__name__}: {error}")
            raise DecodeError(f"reading the source failed ({reason}); try again", uri=redact_uri(uri)) from None


def _clear_stray_times(
    packets: Iterator[av.Packet[av.VideoStream]], stream: av.VideoStream
) -> Iterator[av.Packet[av.VideoStream]]:
    """Take the times from a packet whose time does not fit between those of its neighbours: flipped bits.

    One stray time would otherwise count as a frame hours away, and shift the index of every frame in between.
    """
    assert stream.time_base is not None
    max_step = int(_MAX_STEP_S / stream.time_base)
    clock: int | None = None
    for packet, *following in _with_two_more(_clear_lonely_pts(packets, max_step)):
        time = _packet_dts(packet)
        if clock is not None and time is not None and _is_stray(packet, following, clock, max_step):
            packet.pts = packet.dts = None
        elif time is not None:
            clock = time
        yield packet


def _is_stray(
    packet: av.Packet[av.VideoStream], following: Sequence[av.Packet[av.VideoStream]], clock: int, max_step: int
) -> bool:
    """Whether its dts falls back or leaps by 10 s where the next one's goes on, or the next two stay behind it."""

    def goes_on(other: av.Packet[av.VideoStream]) -> bool:
        time = _packet_dts(other)
        return time is None or clock <= time <= clock + max_step

    if not goes_on(packet):
        return bool(following) and goes_on(following[0])
    dts = packet.dts
    return (
        dts is not None
        and len(following) == _NEIGHBOURS
        and all(other.dts is not None and clock <= other.dts < dts for other in following)
    )


def _with_two_more(
    packets: Iterator[av.Packet[av.VideoStream]],
) -> Iterator[tuple[av.Packet[av.VideoStream], ...]]:
    """Each packet with the two that follow, fewer at the end."""
    window: deque[av.Packet[av.VideoStream]] = deque()
    for packet in packets:
        window.append(packet)
        if len(window) > _NEIGHBOURS:
            yield tuple(window)
            window.popleft()
    while window:
        yield tuple(window)
        window.popleft()


def _clear_lonely_pts(
    packets: Iterator[av.Packet[av.VideoStream]], max_step: int
) -> Iterator[av.Packet[av.VideoStream]]:
    """Take the times from a packet whose pts is far from its dts and from the pts of the packets beside it.

    Around a gap pts are far from dts too, in as many packets as wait for B-frames, but not from one another.
    """
    before: int | None = None
    for packet, following in pairwise(chain(packets, [None])):
        assert packet is not None, "only the last one is none"
        pts, dts = packet.pts, packet.dts
        beside = [before] if following is None else [before, following.pts]
        if pts is not None and dts is not None and abs(pts - dts) > max_step:
            is_lonely = not any(other is not None and abs(pts - other) <= max_step for other in beside)
            packet.pts, packet.dts = (None, None) if is_lonely else (pts, dts)
        before = pts if pts is not None else before
        yield packet


def _time_by_index(
    packets: Iterator[av.Packet[av.VideoStream]], stream: av.VideoStream, errors: list[str]
) -> Iterator[av.Packet[av.VideoStream]]:
    """Give packets of an AVI file the times that its index has for their places.

    FFmpeg counts packets as they come: behind one that damage hides, all others would move up by a frame.
    """
    entries = stream.index_entries
    late = 0  # ticks that the count is behind, where the last packet of the index was
    for packet in packets:
        if packet.dts is not None and packet.pos is not None:
            place = packet.pos - _AVI_CHUNK_HEADER
            number = packet.dts + late
            found = number if 0 <= number < len(entries) and entries[number].pos == place else _find(entries, place)
            if found is not None and entries[found].timestamp != number:
                errors.append("packets are missing that the index has")
                late = entries[found].timestamp - packet.dts
            packet.dts += late
            if packet.pts is not None:
                packet.pts += late
        yield packet


def _find(entries: IndexEntries, place: int) -> int | None:
    """The number of the entry for this place; None: there is none. Entries of files as they are written ascend."""
    number = bisect_left(entries, place, key=attrgetter("pos"))
    return number if number < len(entries) and entries[number].pos == place else None
