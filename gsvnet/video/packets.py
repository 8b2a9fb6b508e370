"""Reading packets past damage: the one loop that indexing and decoding share, so both see the same frames."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.container import InputContainer

from gsvnet.errors import DecodeError
from gsvnet.video.source import redact_text, redact_uri

_MAX_ERRORS_IN_A_ROW = 100


def read_packets(
    container: InputContainer, stream: av.VideoStream, uri: str, errors: list[str]
) -> Iterator[av.Packet[av.VideoStream]]:
    """Every packet of the stream that carries data, in file order, going on after damage.

    What FFmpeg complained about is appended to `errors`. Raises DecodeError when the source itself cannot be read.
    """
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
        except Exception as error:  # from the storage client, through FFmpeg's read callback
            reason = redact_text(f"{type(error).__name__}: {error}")
            raise DecodeError(f"reading the source failed ({reason}); try again", uri=redact_uri(uri)) from None


def packet_pts(packet: av.Packet[av.VideoStream]) -> int | None:
    """Presentation time in ticks; dts where pts is missing (right for streams without B-frames), None without both."""
    return packet.pts if packet.pts is not None else packet.dts
