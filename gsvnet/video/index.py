"""Exact frame numbers: the pts of every frame of a video, in display order."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import av
import numpy as np
from av.container import InputContainer

from gsvnet.errors import NotAVideo
from gsvnet.uris import StorageOptions, redact_uri
from gsvnet.video.boxes import read_boxes
from gsvnet.video.fragments import describe_fragments
from gsvnet.video.limits import MAX_FRAMES
from gsvnet.video.mfra import has_fragments, is_index_right
from gsvnet.video.packets import packet_pts, read_packets
from gsvnet.video.probe import duration_s, open_container, time_base, video_stream
from gsvnet.video.source import InOrder, MediaFile, open_source

NumbersFrom = Literal["index", "scan"]

# In these codecs an MP4 sample is a frame and the demuxer takes its time from the tables in `moov` alone.
_TIMED_BY_TABLES = frozenset({"h264", "hevc", "av1", "vp9", "mjpeg"})
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MOST_BOXES = 1000
_HDR = (16, 18)  # ITU-T H.273 transfer characteristics: PQ, HLG
_MAX_REORDERED = 32  # frames; codecs here reorder by at most 16
_REMUX = "remux it: ffmpeg -i IN -c copy OUT.mkv"
# Copying packets cannot say when they are shown: a muxer refuses them, or (H.264 with +genpts) mixes frames up.
_REENCODE = "re-encode it: ffmpeg -i IN OUT.mkv"
_GUESS_TIMES = "remux it: ffmpeg -fflags +genpts -i IN -c copy OUT.mkv"
_GUESSED_RIGHTLY = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})  # at most one frame waits for those before it


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


def _ticks() -> array[int]:
    return array("q")


@dataclass(kw_only=True)
class _Scan:
    """What one pass over the packets found; times in file order."""

    pts: array[int] = field(default_factory=_ticks)
    sync_pts: array[int] = field(default_factory=_ticks)
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
        in_order = fragmented and not is_index_right(source)  # decoding takes times from that index: so does this
        source.seek(0)
        with open_container(InOrder(source) if in_order else source, uri) as container:
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
    has_tables, end = False, 0
    for box in islice(read_boxes(source), _MOST_BOXES):
        if box.kind == b"moof" or (box.start == 0 and box.kind not in _FIRST_BOXES):
            return []
        has_tables |= box.kind == b"moov"
        if box.kind == b"mdat":
            ranges.append((box.body, box.stop))
        end = box.stop
    return ranges if has_tables and end + 8 > source.size else []


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
            if len(scan.pts) > MAX_FRAMES:
                raise NotAVideo(f"it has more than {MAX_FRAMES:,} frames; cut it up first", uri=redact_uri(uri))
    return scan


def _check_times(scan: _Scan, stream: av.VideoStream, uri: str) -> None:
    """Refuse what cannot be numbered exactly."""
    name = redact_uri(uri)
    if scan.num_untimed > len(scan.pts):
        raise NotAVideo(f"{scan.num_untimed} frames have no usable timestamp; {_REENCODE}", uri=name)
    if not scan.pts:
        raise NotAVideo("the video stream has no frame; record or copy it again", uri=name)
    if scan.num_from_dts and stream.codec_context.has_b_frames:
        remedy = _GUESS_TIMES if stream.codec.canonical_name in _GUESSED_RIGHTLY else _REENCODE
        raise NotAVideo(f"the container does not store the order of its B-frames; {remedy}", uri=name)
    pts = np.array(scan.pts, np.int64)
    steps = np.diff(np.unique(pts))
    step = float(np.median(steps)) if len(steps) else 0.0
    step_back_s, usual_s = (
        ticks * float(time_base(stream)) for ticks in ((np.maximum.accumulate(pts) - pts).max(), _MAX_REORDERED * step)
    )
    if step_back_s > max(1.0, usual_s):
        raise NotAVideo(f"timestamps jump back by {step_back_s:.1f} s, as in joined recordings; {_REMUX}", uri=name)


def _describe_problems(scan: _Scan, pts: np.ndarray, container: InputContainer, stream: av.VideoStream) -> list[str]:
    num_packets = len(scan.pts) + scan.num_hidden + scan.num_untimed
    num_there, is_edited = num_packets, scan.num_hidden > 0
    if container.format.name == "avi":  # its header counts ticks
        num_there = max(num_packets, int(pts[-1]) + 1)
    elif stream.frames > num_packets == len(stream.index_entries):  # all of MP4's tables: an edit list cut the rest
        num_there, is_edited = stream.frames, True
    problems = [f"reading went on after: {reason}" for reason in sorted(set(scan.errors))]
    if stream.codec_context.color_trc in _HDR:
        problems.append(
            "its colours are HDR, which is not mapped: networks that learned from ordinary video see it flat"
        )
    if container.format.name == "obu":  # FFmpeg's default for streams without times; others get none at all
        problems.append("the file stores no times: 25 frames/s are assumed")
    if is_edited:  # no number: of several edits, each has frames outside
        problems.append("frames outside the edit list are left out, as players do")
    if stream.frames > num_there:
        problems.append(f"the header declares {stream.frames} frames, {num_packets} are there: cut short?")
    first_s, last_s = (float(int(tick) * time_base(stream)) for tick in (pts[0], pts[-1]))
    claimed_s, covered_s = duration_s(container, stream), last_s - first_s
    if claimed_s is not None and claimed_s > 1.05 * max(covered_s, last_s) + 1:  # Matroska's and FLV's counts from 0
        problems.append(f"the header claims {claimed_s:.1f} s, frames cover {covered_s:.1f} s: cut short?")
    counts = {
        "frames share the timestamp of another and are left out": len(scan.pts) - len(pts),
        "frames have no usable timestamp and are left out": scan.num_untimed,
        "packets are marked corrupt by the container": scan.num_corrupt,
    }
    return problems + [f"{count} {what}" for what, count in counts.items() if count]
