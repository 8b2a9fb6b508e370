"""Exact frame numbers: the pts of every frame of a video, in display order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import av
import numpy as np
from av.container import InputContainer

from gsvnet.errors import NotAVideo
from gsvnet.uris import StorageOptions, redact_uri
from gsvnet.video.fragments import describe_fragments, has_fragments
from gsvnet.video.packets import packet_pts, read_packets
from gsvnet.video.probe import duration_s, open_container, time_base, video_stream
from gsvnet.video.source import InOrder, MediaFile, open_source

NumbersFrom = Literal["index", "scan"]

# In these codecs an MP4 sample is a frame and the demuxer takes its time from the tables in `moov` alone.
_TIMED_BY_TABLES = frozenset({"h264", "hevc", "av1", "vp9", "mjpeg"})
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MAX_REORDERED = 32  # frames; codecs here reorder by at most 16
_REMUX = "remux it: ffmpeg -i IN -c copy OUT.mkv, or re-encode it"


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoIndex:
    """Where every frame of a video stands.

    pts: (N,) int64 ticks in display order, strictly ascending. Packets with one pts are one frame: the first that
    the decoder gives out. sync_frames: ascending display indices of I-frames, as the container marks them.
    numbers_from: "index" (container tables alone) or "scan" (all packets read). [start_pts, end_pts): ticks covered.
    problems: what looked odd, for people.
    """

    pts: np.ndarray
    sync_frames: np.ndarray
    numbers_from: NumbersFrom
    start_pts: int
    end_pts: int
    problems: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Scan:
    """What one pass over the packets found; lists in file order."""

    pts: list[int] = field(default_factory=list)
    sync_pts: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    last_duration: int = 0
    num_hidden: int = 0
    num_from_dts: int = 0
    num_untimed: int = 0
    num_corrupt: int = 0


def index_video(uri: str, storage_options: StorageOptions | None = None) -> VideoIndex:
    """The index of a video's frames; equals what decoding all of an undamaged file yields.

    MP4 without fragments is read without its media (kilobytes per minute); all else takes one pass over the packets.
    Raises VideoNotFound, or NotAVideo when there is no frame or when timestamps are missing or jump back.
    """
    with open_source(uri, storage_options) as source:
        payload = _media_ranges(source)
        if payload:
            with open_container(_WithoutMedia(source, payload), uri, parse=False) as container:
                stream = video_stream(container, uri)
                if stream.codec.canonical_name in _TIMED_BY_TABLES and container.format.name.startswith("mov"):
                    return _build_index(container, stream, uri, numbers_from="index")
        fragmented = has_fragments(source)
        source.seek(0)
        with open_container(InOrder(source) if fragmented else source, uri) as container:
            index = _build_index(container, video_stream(container, uri), uri, numbers_from="scan")
        costs = describe_fragments(source, uri, len(index.sync_frames)) if fragmented else []
        return replace(index, problems=(*index.problems, *costs))


class _WithoutMedia(MediaFile):
    """An MP4 file whose media bytes read as zeros and cost no access to the source.

    FFmpeg's own demuxer then turns sample tables and edit lists into pts: no second implementation, nothing to trust.
    """

    def __init__(self, source: MediaFile, payload: Sequence[tuple[int, int]]) -> None:
        super().__init__(source.read_at, source.size)
        self._payload = payload

    def read(self, num_bytes: int) -> bytes:
        """As the file's, with zeros in media ranges; shorter than asked at the borders of such a range."""
        start = self._position
        stop = min(start + num_bytes, self.size)
        for first, end in self._payload:
            if first <= start < end:
                self._position = min(stop, end)
                return bytes(self._position - start)
            if start < first < stop:
                stop = first
        return super().read(stop - start)


def _media_ranges(source: MediaFile) -> list[tuple[int, int]]:
    """[start, stop) in bytes of the media in an MP4 file; empty if it is none, is fragmented, or does not add up."""
    ranges: list[tuple[int, int]] = []
    position, has_tables = 0, False
    while position + 8 <= source.size:
        source.seek(position)
        header = source.read(16)
        length, kind, header_bytes = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1:
            length, header_bytes = int.from_bytes(header[8:16], "big"), 16
        elif length == 0:
            length = source.size - position
        is_mp4 = position > 0 or kind in _FIRST_BOXES
        if not is_mp4 or length < header_bytes or kind == b"moof":
            return []
        has_tables |= kind == b"moov"
        if kind == b"mdat":
            ranges.append((position + header_bytes, min(position + length, source.size)))
        position += length
    return ranges if has_tables else []


def _build_index(
    container: InputContainer, stream: av.VideoStream, uri: str, *, numbers_from: NumbersFrom
) -> VideoIndex:
    scan = _scan_packets(container, stream, uri)
    _check_times(scan, stream, uri)
    pts = np.unique(np.array(scan.pts, np.int64))
    step = scan.last_duration or (int(np.median(np.diff(pts))) if len(pts) > 1 else 1)
    return VideoIndex(
        pts=pts,
        sync_frames=np.searchsorted(pts, np.unique(np.array(scan.sync_pts, np.int64))),
        numbers_from=numbers_from,
        start_pts=int(pts[0]),
        end_pts=int(pts[-1]) + step,
        problems=tuple(_describe_problems(scan, pts, container, stream)),
    )


def _scan_packets(container: InputContainer, stream: av.VideoStream, uri: str) -> _Scan:
    scan = _Scan()
    for packet in read_packets(container, stream, uri, scan.errors):
        pts = packet_pts(packet)
        scan.num_corrupt += packet.is_corrupt
        if packet.is_discard:  # outside the edit list: needed to decode others, never shown
            scan.num_hidden += 1
        elif pts is None:
            scan.num_untimed += 1
        else:
            scan.num_from_dts += packet.pts is None
            if not scan.pts or pts >= max(scan.pts[-1], scan.pts[0]):
                scan.last_duration = packet.duration or 0
            scan.pts.append(pts)
            if packet.is_keyframe:
                scan.sync_pts.append(pts)
    return scan


def _check_times(scan: _Scan, stream: av.VideoStream, uri: str) -> None:
    """Refuse what cannot be numbered exactly."""
    name = redact_uri(uri)
    if scan.num_untimed > len(scan.pts):
        raise NotAVideo(f"{scan.num_untimed} frames have no timestamp; {_REMUX}", uri=name)
    if not scan.pts:
        raise NotAVideo("the video stream has no frame; record or copy it again", uri=name)
    if scan.num_from_dts and stream.codec_context.has_b_frames:
        raise NotAVideo(f"the container does not store the order of its B-frames; {_REMUX}", uri=name)
    pts = np.array(scan.pts, np.int64)
    step = float(np.median(np.diff(np.unique(pts)))) if len(pts) > 1 else 0.0
    step_back_s, usual_s = (
        ticks * float(time_base(stream)) for ticks in ((np.maximum.accumulate(pts) - pts).max(), _MAX_REORDERED * step)
    )
    if step_back_s > max(1.0, usual_s):
        raise NotAVideo(f"timestamps jump back by {step_back_s:.1f} s, as in joined recordings; {_REMUX}", uri=name)


def _describe_problems(scan: _Scan, pts: np.ndarray, container: InputContainer, stream: av.VideoStream) -> list[str]:
    num_packets = len(scan.pts) + scan.num_hidden + scan.num_untimed
    problems = [f"reading went on after: {reason}" for reason in sorted(set(scan.errors))]
    if stream.frames > num_packets:
        problems.append(f"the header declares {stream.frames} frames, {num_packets} are there: cut short?")
    claimed_s, covered_s = duration_s(container, stream), float((int(pts[-1]) - int(pts[0])) * time_base(stream))
    if claimed_s is not None and claimed_s > 1.05 * covered_s + 1:
        problems.append(f"the header claims {claimed_s:.1f} s, frames cover {covered_s:.1f} s: cut short?")
    counts = {
        "frames share the timestamp of another and are left out": len(scan.pts) - len(pts),
        "frames have no usable timestamp and are left out": scan.num_untimed,
        "packets are marked corrupt by the container": scan.num_corrupt,
    }
    return problems + [f"{count} {what}" for what, count in counts.items() if count]
