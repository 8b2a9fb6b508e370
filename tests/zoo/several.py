"""Files with more than one stream, or with pictures of more than one size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from tests.video.media import add_video, encode_frames, encode_silence
from tests.zoo.exhibit import NUM_FRAMES, Make
from tests.zoo.making import B_FRAMES, drawn_in

Add = Callable[[av.container.OutputContainer], Callable[[], None]]


def streams(*adds: Add, container_options: Mapping[str, str] | None = None) -> Make:
    """Makes a file with these streams. Each is added by one function, and written by the one that this returns."""

    def make(path: Path) -> None:
        with av.open(str(path), "w", options=dict(container_options or {})) as output:
            for write in [add(output) for add in adds]:
                write()

    return make


def pictures(
    numbers: Sequence[int] = range(NUM_FRAMES),
    *,
    codec: str = "libx264",
    options: Mapping[str, str] | None = B_FRAMES,
    size: tuple[int, int] = (72, 96),
    pixel_format: str = "yuv420p",
    first_pts: int = 0,
    time_base: Fraction = Fraction(1, 30),
    disposition: av.stream.Disposition | None = None,
) -> Add:
    """A video stream of frames with these numbers."""

    def add(output: av.container.OutputContainer) -> Callable[[], None]:
        stream = add_video(output, codec=codec, options=options, size=size, pixel_format=pixel_format)
        stream.codec_context.time_base = time_base  # before the header is written
        if disposition is not None:
            stream.disposition = disposition
        pts = range(first_pts, first_pts + len(numbers))
        return partial(
            encode_frames, output, stream, numbers, pts=pts, time_base=time_base, draw=drawn_in(pixel_format)
        )

    return add


def silence(num_seconds: float = 1.0) -> Add:
    """An audio stream."""

    def add(output: av.container.OutputContainer) -> Callable[[], None]:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        return partial(encode_silence, output, stream, num_samples=int(16000 * num_seconds))

    return add


def packets(codec: str, *contents: bytes, is_data: bool = False) -> Add:
    """A subtitle or data stream of these packets, ten frames apart."""

    def add(output: av.container.OutputContainer) -> Callable[[], None]:
        stream = output.add_data_stream(codec) if is_data else output.add_mux_stream(codec)
        stream.time_base = Fraction(1, 1000)

        def write() -> None:
            output.start_encoding()
            for place, content in enumerate(contents):
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = place * 333
                packet.duration = 200
                output.mux(packet)

        return write

    return add


def header_only(output: av.container.OutputContainer) -> Callable[[], None]:
    """No stream, but the header of the others is written, frames or not."""
    return output.start_encoding


def of_sizes(
    *sizes: tuple[int, int], num_frames: int = 12, codec: str = "libx264", options: Mapping[str, str] | None = None
) -> Make:
    """Makes one stream in which the size changes: each size (height, width) is held for `num_frames`."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as output:
            stream = add_video(output, codec=codec, options=options, size=sizes[0])
            for part, size in enumerate(sizes):
                encoder = stream.codec_context if part == 0 else _encoder(codec, options, size)
                encoder.time_base = Fraction(1, 30)
                for number in range(part * num_frames, (part + 1) * num_frames):
                    frame = drawn_in("yuv420p")(number, *size)
                    frame.pts, frame.time_base = number, Fraction(1, 30)
                    _mux(output, stream, encoder.encode(frame))
                _mux(output, stream, encoder.encode(None))

    return make


def _encoder(codec: str, options: Mapping[str, str] | None, size: tuple[int, int]) -> av.VideoCodecContext:
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = size
    encoder.pix_fmt, encoder.options, encoder.thread_count = "yuv420p", dict(options or {}), 1
    encoder.framerate = Fraction(30)
    return encoder


def _mux(output: av.container.OutputContainer, stream: av.VideoStream, encoded: Sequence[av.Packet]) -> None:
    for packet in encoded:
        packet.stream = stream
        packet.time_base = packet.time_base or Fraction(1, 30)
        output.mux(packet)
