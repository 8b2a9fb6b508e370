"""Reading packets past damage: the one loop that indexing and decoding share, so both see the same frames."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.container import InputContainer

from gsvnet.errors import DecodeError, VideoError
from gsvnet.uris import redact_text, redact_uri

_MAX_ERRORS_IN_A_ROW = 100
_MAX_STEP_S = 10


def read_packets(
    container: InputContainer, stream: av.VideoStream, uri: str, errors: list[str]
) -> Iterator[av.Packet[av.VideoStream]]:
    """Every packet of the stream that carries data, in file order, going on after damage.

    A packet whose timestamps were damaged has none. What FFmpeg complained about is appended to `errors`.
    Raises DecodeError when the source itself cannot be read.
    """
    packets = _read_past_damage(container, stream, uri, errors)
    # MPEG-TS keeps each time inside the packet and unprotected; elsewhere times stand in tables or clusters.
    return _clear_stray_times(packets, stream) if container.format.name == "mpegts" else packets


def packet_pts(packet: av.Packet[av.VideoStream]) -> int | None:
    """Presentation time in ticks; dts where pts is missing (right for streams without B-frames), None without both."""
    return packet.pts if packet.pts is not None else packet.dts


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
    """Take the times from a packet whose dts falls back or leaps by 10 s where the next one's goes on: flipped bits.

    One stray time would otherwise count as a frame hours away, and shift the index of every frame in between.
    """
    assert stream.time_base is not None
    max_step = _MAX_STEP_S / stream.time_base
    clock: int | None = None
    stray: av.Packet[av.VideoStream] | None = None
    for packet in packets:
        if packet.pts is not None and packet.dts is not None and abs(packet.pts - packet.dts) > max_step:
            packet.pts = packet.dts = None
        time = packet.dts if packet.dts is not None else packet.pts
        leaps = clock is not None and time is not None and not clock <= time <= clock + max_step
        if stray is not None:
            if not leaps:
                stray.pts = stray.dts = None
            yield stray
        stray = packet if leaps and stray is None else None
        if stray is None:
            clock = time if time is not None else clock
            yield packet
    if stray is not None:
        yield stray
