"""Which motion a video gets: its own codec's vectors where they can be trusted, else that of a small encoder.

A vector says where a block was found, but not in which frame. So vectors are trusted only where every frame has one
reference, the frame before it, and where chunks fit between I-frames, which have no vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, pairwise

import av
import numpy as np
from av.codec.context import Flags2
from av.container import InputContainer
from av.video.frame import PictureType

from gsvnet.choices import MotionSource, MotionWish
from gsvnet.errors import ConfigError, VideoError
from gsvnet.uris import StorageOptions, redact_uri
from gsvnet.video.h264 import header_units, is_unreferenced, length_bytes, nal_units, parse_parameters
from gsvnet.video.motion_field import see_picture
from gsvnet.video.packets import read_packets
from gsvnet.video.probe import duration_s, open_container, time_base, video_stream
from gsvnet.video.proxy import check_proxy
from gsvnet.video.source import MediaFile, open_source

_CODECS_WITH_VECTORS = ("h264", "mpeg4", "mpeg2video", "mpeg1video")
_PLACES = (Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))  # of the duration, where frames are looked at
_FRAMES_PER_PLACE, _PACKETS_PER_PLACE, _UNITS_PER_PACKET = 8, 24, 1000
_BYTES_PER_SEEK = 1 << 23  # an index, or some steps of a search; a place that is farther away is not looked at
_SHORT_SHARE = 0.1  # of frames between I-frames that are too near, which scene cuts may cause
_MIN_COVERED = 0.5  # of the area of predicted frames; the rest has no vectors
LOOKED_FOR = 8  # frames away in which a reference is looked for where it may be any; x264's defaults use six and more


@dataclass(frozen=True, kw_only=True)
class MotionChoice:
    """Where a video's motion comes from. reason: one line for people. max_distance: for `read_frames_and_motion`."""

    source: MotionSource
    reason: str
    max_distance: int


def choose_motion_source(
    uri: str,
    *,
    interval: int,
    sync_frames: Sequence[int],
    num_frames: int,
    wanted: MotionWish = "auto",
    storage_options: StorageOptions | None = None,
) -> MotionChoice:
    """The motion source of a video whose chunks have `interval` frames; the same for the same file.

    sync_frames, num_frames: as `index_video` says. A few dozen frames are decoded, at the start and at each quarter; at
    the start only where a container has no index by which to find the others in 8 MiB each (some FLV and MKV).
    Settings that change in between and back again go unnoticed. wanted: "codec" takes what vectors there are, also
    where it has to be guessed which frame they lead to.
    Raises VideoError where they are wanted and there are none, or none that count from the picture's corner, as
    `read_frames` where the video cannot be read, and ConfigError for another wish, an interval below 1, and a proxy
    without an encoder.
    """
    if wanted not in ("auto", "codec", "proxy") or interval < 1:
        raise ConfigError(f"motion {wanted!r}, interval {interval}; allowed: auto, codec or proxy, and 1 or more")
    if wanted == "proxy":
        return _choose_proxy("asked for")
    short = _describe_short(interval, sync_frames, num_frames)
    if wanted == "auto" and short:
        return _choose_proxy(short)
    sample = _take_sample(uri, storage_options)
    lacking, doubt = sample.describe_lack(), sample.describe_doubt()
    if wanted == "codec":
        if lacking:
            raise VideoError(f"{lacking}, and codec motion is asked for; allow a proxy", uri=redact_uri(uri))
        reason = "asked for" + "".join(f"; but {said}" for said in (short, doubt) if said)
        return MotionChoice(source="codec", reason=reason, max_distance=LOOKED_FOR if doubt else 1)
    if lacking or doubt:
        return _choose_proxy(lacking or doubt)
    return MotionChoice(source="codec", reason=f"{sample.codec}, one reference, no B-frames", max_distance=1)


def _choose_proxy(reason: str) -> MotionChoice:
    check_proxy()
    return MotionChoice(source="proxy", reason=reason, max_distance=1)


def _describe_short(interval: int, sync_frames: Sequence[int], num_frames: int) -> str:
    """What is wrong with the distance of I-frames, or nothing."""
    borders = sorted({0, *(int(frame) for frame in sync_frames), num_frames})
    lengths = [end - start for start, end in pairwise(borders)]
    in_short = sum(length for length in lengths[:-1] if length < interval)
    if in_short <= _SHORT_SHARE * num_frames:
        return ""
    return f"{in_short / num_frames:.0%} of frames stand between I-frames less than {interval} frames apart"


@dataclass(kw_only=True)
class _Sample:
    """What some frames of a video look like. covered: share of each predicted frame's area that has vectors."""

    codec: str
    reorders: bool = False
    max_references: int | None = None
    types: set[str] = field(default_factory=set)
    covered: list[float] = field(default_factory=list)
    fields: bool = False
    cropped: bool = False
    skips: bool = False
    damaged: bool = False

    def describe_lack(self) -> str:
        """Why there are no vectors, or nothing."""
        if self.codec not in _CODECS_WITH_VECTORS:
            return f"{self.codec} gives no motion vectors"
        if self.cropped:
            return "its picture is cropped at the left or top, where its motion vectors are counted from"
        if any(self.covered):
            return ""
        return "it is interlaced" if self.fields else "the sampled frames hold no motion vectors"

    def describe_doubt(self) -> str:
        """Why vectors cannot be trusted, or nothing."""
        others = sorted(self.types - {"I", "P", "B"})
        doubts = {
            "a sampled frame is damaged": self.damaged,
            "it is interlaced": self.fields,
            "it has B-frames": self.reorders or "B" in self.types,
            f"it has frames of type {', '.join(others)}": bool(others),
            "it does not say how many reference frames it has": self.codec == "h264" and self.max_references is None,
            f"it has up to {self.max_references} reference frames": (self.max_references or 1) > 1,
            "it has frames that the next one does not refer to": self.skips,
            "most of the sampled frames' area has no vectors": sum(self.covered) < _MIN_COVERED * len(self.covered),
        }
        return next((doubt for doubt, holds in doubts.items() if holds), "")

    def add_units(self, units: Iterator[bytes]) -> None:
        """Note what H.264's own units say, up to one that cannot be read."""
        try:
            for count, unit in enumerate(units):
                if count == _UNITS_PER_PACKET:
                    raise ValueError("more units than a frame has")
                self.skips = self.skips or is_unreferenced(unit)
                parameters = parse_parameters(unit)
                if parameters is not None:
                    self.max_references = max(self.max_references or 0, parameters.max_references)
                    self.fields = self.fields or not parameters.frames_only
                    self.cropped = self.cropped or parameters.corner_cropped
        except ValueError:
            self.damaged = True

    def add_frame(self, frame: av.VideoFrame) -> None:
        """Note what a decoded frame says."""
        self.types.add(PictureType(frame.pict_type).name)
        self.fields = self.fields or bool(frame.interlaced_frame)
        self.damaged = self.damaged or frame.is_corrupt
        if PictureType(frame.pict_type) != PictureType.I:
            vectors = see_picture(0, frame, with_luma=False).vectors
            area = float((vectors["w"].astype(np.int64) * vectors["h"]).sum())
            self.covered.append(area / (frame.height * frame.width))


def _take_sample(uri: str, storage_options: StorageOptions | None) -> _Sample:
    with open_source(uri, storage_options) as source, open_container(limited := _Limited(source), uri) as container:
        stream = video_stream(container, uri)
        sample = _Sample(codec=stream.codec.canonical_name)
        if sample.codec not in _CODECS_WITH_VECTORS:
            return sample
        decoder = stream.codec_context
        decoder.thread_type, decoder.thread_count = "NONE", 1
        decoder.flags2 |= Flags2.export_mvs
        if sample.codec == "h264":
            sample.add_units(header_units(decoder.extradata))
        seconds = duration_s(container, stream)
        for place in _PLACES if seconds else _PLACES[:1]:
            target = (stream.start_time or 0) + int(place * Fraction(seconds or 0) / time_base(stream))
            if place and not _seek(container, stream, target, limited):
                break
            _look_at_place(container, stream, uri, sample)
        sample.reorders = bool(decoder.has_b_frames)
        return sample


class _Limited(MediaFile):
    """A file that seems to end after `allowed` bytes more, where that is no None. ended: whether it did."""

    def __init__(self, source: MediaFile) -> None:
        super().__init__(source.read_at, source.size)
        self.end_opening = source.end_opening  # type: ignore[method-assign]
        self.allowed: int | None = None
        self.ended = False

    def read(self, num_bytes: int) -> bytes:
        """As the file's."""
        if self.allowed is None:
            return super().read(num_bytes)
        data = super().read(min(num_bytes, self.allowed))
        self.allowed -= len(data)
        self.ended = self.ended or self.allowed == 0
        return data


def _seek(container: InputContainer, stream: av.VideoStream, target: int, limited: _Limited) -> bool:
    """Whether the place was found. Without an index FFmpeg looks for it in all that lies before."""
    limited.allowed = _BYTES_PER_SEEK
    try:
        container.seek(target, stream=stream)
    except av.error.FFmpegError:
        return False
    limited.allowed = None
    return not limited.ended


def _look_at_place(container: InputContainer, stream: av.VideoStream, uri: str, sample: _Sample) -> None:
    """Decode some frames from where the container stands."""
    errors: list[str] = []
    num_frames = num_packets = 0
    unit_length = length_bytes(stream.codec_context.extradata)
    for packet in chain(read_packets(container, stream, uri, errors), [None]):
        if packet is not None and sample.codec == "h264":
            sample.add_units(nal_units(bytes(packet), unit_length))
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            errors.append(str(error))
            frames = []
        if not num_frames:
            errors.clear()  # those of starting in the middle
        sample.damaged = sample.damaged or bool(errors)
        for frame in frames:
            sample.add_frame(frame)
        num_frames, num_packets = num_frames + len(frames), num_packets + 1
        if num_frames >= _FRAMES_PER_PLACE or num_packets >= _PACKETS_PER_PLACE:
            return
