"""Opening videos and saying what they are, without decoding more than one frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import atan2, degrees

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from gsvnet.errors import DecodeError, NotAVideo
from gsvnet.uris import StorageOptions, redact_text, redact_uri
from gsvnet.video.explain import explained
from gsvnet.video.frames import find_side_data, inconvertible_colours
from gsvnet.video.limits import MAX_PIXELS, check_sample_counts, limit_pixels
from gsvnet.video.mfra import is_index_right
from gsvnet.video.source import InOrder, MediaFile, open_source, stat_source

__all__ = ["VideoInfo", "open_video", "probe_video", "video_identity", "video_stream"]

# Demuxers that read only the bytes they are given. Playlists and pattern readers (hls, dash, concat, image2) stay out.
_CONTAINERS = (
    "mov,matroska,mpegts,avi,mpeg,flv,asf,ogg,mxf,nut,ivf,obu,h264,hevc,m4v,mpegvideo,dv,rm,gif,yuv4mpegpipe,"
    "wav,mp3,flac,aac"  # without pictures, but "has no video stream" is the better message
)
_BUFFER_BYTES = 1 << 17
_MAX_PROBED_PACKETS = 1000

_COLOR_SPACES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
_COLOR_RANGES = {1: "limited", 2: "full"}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video is. Sizes in pixels; coded: as stored; height, width: in display orientation.

    uri: without credentials. codec: FFmpeg's name ("h264"). rotation: degrees counterclockwise that bring a stored
    frame upright, one of 0, 90, 180, 270. time_base: seconds per tick. duration_s: what the header claims, a hint.
    color_range: limited | full | unspecified. identity: changes when the file does (size, then version id, etag...).
    """

    uri: str
    container: str
    codec: str
    pixel_format: str
    coded_height: int
    coded_width: int
    height: int
    width: int
    rotation: int
    time_base: Fraction
    average_rate: Fraction | None
    color_range: str
    color_space: str
    duration_s: float | None
    has_b_frames: bool
    size_bytes: int
    identity: str


@contextmanager
def open_video(
    uri: str,
    storage_options: StorageOptions | None = None,
    *,
    hwaccel: HWAccel | None = None,
    identity: str | None = None,
) -> Iterator[InputContainer]:
    """PyAV container of a local path or any fsspec URI. hwaccel: what decodes its streams instead of the CPU.

    identity: what the file has to be until the container is closed. Raises VideoNotFound, NotAVideo, SourceUnavailable
    or SourceChanged. FFmpeg sees bytes only: it opens no other file, playlist or protocol.
    """
    with (
        open_source(uri, storage_options, identity=identity) as source,
        open_container(source, uri, hwaccel=hwaccel) as container,
    ):
        yield container


@contextmanager
def open_container(
    source: MediaFile | InOrder, uri: str, *, parse: bool = True, hwaccel: HWAccel | None = None
) -> Iterator[InputContainer]:
    """PyAV container over opened bytes; `uri` is for messages. parse=False: packets as the container's tables say,
    whatever the media holds. Raises NotAVideo.
    """
    name = redact_uri(uri)
    with explained(uri):
        # Without an index at the end that is right, FFmpeg reads all fragments' headers to open a fragmented MP4.
        by_index = isinstance(source, MediaFile) and is_index_right(source)
        try:
            container = av.open(
                source,
                mode="r",
                options={
                    "format_whitelist": _CONTAINERS,
                    "protocol_whitelist": "none",
                    "max_pixels": str(MAX_PIXELS),  # of the frames that FFmpeg decodes to know what a stream is
                    **({"use_mfra_for": "pts"} if by_index else {}),
                    # PyAV asks FFmpeg to invent missing pts; with B-frames in AVI those are wrong: show the gap.
                    "fflags": "-genpts" if parse else "-genpts+noparse+nofillin",
                },
                metadata_errors="replace",
                buffer_size=_BUFFER_BYTES,
                hwaccel=hwaccel,
            )
        except av.error.FFmpegError as error:
            reason = f"not a readable video container ({_ffmpeg_reason(error)})"
            raise NotAVideo(f"{reason}; it may be cut short, still being written, or no video", uri=name) from None
    source.end_opening()
    with container:
        yield container


def video_stream(container: InputContainer, uri: str) -> av.VideoStream:
    """The first video stream that is no cover picture and can be decoded; none of its frames gets beyond MAX_PIXELS.

    Raises NotAVideo.
    """
    streams = container.streams.video
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    usable = [s for s in streams if not s.disposition & pictures and s.codec_context is not None]
    if not usable:
        others = ", ".join(sorted({s.type for s in container.streams})) or "no stream at all"
        found = "a video stream in a codec that FFmpeg cannot decode" if streams else f"no video stream: {others}"
        raise NotAVideo(f"the file has {found}", uri=redact_uri(uri))
    limit_pixels(usable[0], uri)
    return usable[0]


def video_identity(uri: str, storage_options: StorageOptions | None = None) -> str:
    """The identity that `probe_video` reports, from the store alone: compare it before work on a planned video."""
    return stat_source(uri, storage_options)[1]


def probe_video(uri: str, storage_options: StorageOptions | None = None) -> VideoInfo:
    """Facts about a video from its header and first decodable frame. Raises VideoNotFound or NotAVideo."""
    size_bytes, identity = stat_source(uri, storage_options)
    with open_source(uri, storage_options) as source:
        check_sample_counts(source, uri)
        with open_container(source, uri) as container:
            return _describe(container, uri, size_bytes=size_bytes, identity=identity)


def _describe(container: InputContainer, uri: str, *, size_bytes: int, identity: str) -> VideoInfo:
    stream = video_stream(container, uri)
    frame = _first_frame(container, stream, uri)
    _check_picture(frame, uri)
    rotation = frame_rotation(frame)
    turned = rotation in (90, 270)
    return VideoInfo(
        uri=redact_uri(uri),
        container=container.format.name,
        codec=stream.codec.canonical_name,
        pixel_format=frame.format.name,
        coded_height=frame.height,
        coded_width=frame.width,
        height=frame.width if turned else frame.height,
        width=frame.height if turned else frame.width,
        rotation=rotation,
        time_base=time_base(stream),
        average_rate=Fraction(stream.average_rate) if stream.average_rate else None,
        color_range=_COLOR_RANGES.get(frame.color_range, "unspecified"),
        color_space=_COLOR_SPACES.get(frame.colorspace, "unspecified"),
        duration_s=duration_s(container, stream),
        has_b_frames=bool(stream.codec_context.has_b_frames),
        size_bytes=size_bytes,
        identity=identity,
    )


def frame_rotation(frame: av.VideoFrame) -> int:
    """Degrees counterclockwise (0, 90, 180, 270) that bring a decoded frame into display orientation."""
    right, down = _display_matrix(frame)[:2]
    return round(-degrees(atan2(down, right)) / 90) * 90 % 360


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Where a step to the right and a step down in a decoded frame lead on the display: x and y of each."""
    matrix = find_side_data(frame, "DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(memoryview(matrix), np.int32, count=5).tolist()
    return a, b, c, d


def _check_picture(frame: av.VideoFrame, uri: str) -> None:
    """Refuse what cannot be shown as it should be."""
    a, b, c, d = _display_matrix(frame)
    if a * d < b * c:
        raise NotAVideo("its pictures are stored mirrored; re-encode it: ffmpeg -i IN OUT.mkv", uri=redact_uri(uri))
    colours = inconvertible_colours(frame)
    if colours is not None:
        said = f"its colours are stored as {colours}, which is not read; convert them to BT.709"
        raise NotAVideo(said, uri=redact_uri(uri))


def time_base(stream: av.VideoStream) -> Fraction:
    """Seconds per tick of a stream's timestamps."""
    assert stream.time_base is not None, "FFmpeg sets it for every stream of an opened file"
    return Fraction(stream.time_base)


def duration_s(container: InputContainer, stream: av.VideoStream) -> float | None:
    """Seconds that the header claims for the stream, else for the file; None where it says nothing."""
    if stream.duration is not None:
        return float(stream.duration * time_base(stream))
    return container.duration / av.time_base if container.duration is not None else None


def _first_frame(container: InputContainer, stream: av.VideoStream, uri: str) -> av.VideoFrame:
    name = redact_uri(uri)
    try:
        for count, packet in enumerate(container.demux(stream)):
            if packet.has_sidedata("encryption_info"):  # decoders would make grey frames and damage of it
                raise NotAVideo("the video is encrypted; decrypt it first", uri=name)
            try:
                for frame in packet.decode():
                    return frame
            except av.error.FFmpegError:
                pass  # a recording may start in the middle of a GOP
            if count >= _MAX_PROBED_PACKETS:
                break
    except av.error.FFmpegError as error:
        raise NotAVideo(f"no frame can be decoded ({_ffmpeg_reason(error)})", uri=name) from None
    except OSError as error:
        raise DecodeError(f"reading failed ({redact_text(str(error))}); try again", uri=name) from None
    raise NotAVideo("no frame can be decoded; record or copy it again", uri=name)


def _ffmpeg_reason(error: av.error.FFmpegError) -> str:
    return redact_text(str(error.strerror or error))
