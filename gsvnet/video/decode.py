"""Frames of a video by time range: exact, complete, and the same wherever decoding starts."""

from __future__ import annotations

import heapq
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from operator import itemgetter
from typing import Literal, TypeVar, cast

import av
import numpy as np
from av.codec.context import Flags2
from av.container import InputContainer

from gsvnet.errors import DecodeError
from gsvnet.video.frames import View, render_full_size, render_views
from gsvnet.video.packets import packet_pts, read_packets
from gsvnet.video.probe import frame_rotation, open_video, time_base, video_stream
from gsvnet.video.source import StorageOptions, redact_uri

T = TypeVar("T")

_FIRST_MARGIN_S = Fraction(1)
# No codec here reorders further than this; it bounds memory where a file's dts lag far behind its pts.
_MAX_REORDERED = 16


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of a video. index: in the video, display order. pts: ticks.

    images: one (h, w, 3) RGB array per requested view, empty when the frame is lost (status "decode_error").
    """

    index: int
    pts: int
    images: tuple[np.ndarray, ...]
    status: Literal["ok", "decode_error"]


def read_frames(
    uri: str,
    *,
    first_frame: int,
    start_pts: int,
    end_pts: int | None,
    views: Callable[[int], Sequence[View]],
    rotation: int = 0,
    threads: int = 1,
    storage_options: StorageOptions | None = None,
) -> Generator[Frame, None, None]:
    """Every frame with start_pts <= pts < end_pts (None: to the end), once, in display order.

    first_frame: index of the frame at start_pts. views(index): the sizes to render of that frame, may be none.
    A frame whose packet is there but which the decoder never gives out has status "decode_error", so indices never
    shift. In an undamaged file, frames and pixels do not depend on where the range starts or on `threads`.
    Raises VideoNotFound, NotAVideo, and DecodeError when reading cannot go on.
    """
    pictures = read_pictures(
        uri, start_pts=start_pts, end_pts=end_pts, threads=threads, storage_options=storage_options
    )
    for index, (pts, picture) in enumerate(pictures, start=first_frame):
        if picture is None:
            yield Frame(index=index, pts=pts, images=(), status="decode_error")
        else:
            images = render_views(picture, views(index), rotation)
            yield Frame(index=index, pts=pts, images=images, status="ok")


def read_frame_at(uri: str, pts: int, *, storage_options: StorageOptions | None = None) -> np.ndarray:
    """Upright full-size RGB image (H, W, 3) uint8 of the frame at exactly `pts`. Raises DecodeError if it is lost."""
    for found, picture in read_pictures(uri, start_pts=pts, end_pts=pts + 1, storage_options=storage_options):
        if found == pts and picture is not None:
            return render_full_size(picture, frame_rotation(picture))
    raise DecodeError("no decodable frame at this time", uri=redact_uri(uri), pts=pts)


def read_pictures(
    uri: str,
    *,
    start_pts: int,
    end_pts: int | None,
    threads: int = 1,
    motion: bool = False,
    storage_options: StorageOptions | None = None,
) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """(pts, decoded frame or None when lost) for every frame of [start_pts, end_pts) in display order.

    motion: frames carry the codec's motion vectors as side data, where FFmpeg's decoder gives them out.
    """
    num_done = 0
    # A damaged reference picture comes out after the B-frames that were made from it: hold those back until then.
    held: deque[tuple[int, av.VideoFrame | None]] = deque()
    num_held = _MAX_REORDERED if threads > 1 else 0
    try:
        for pts, picture in _read_range(uri, start_pts, end_pts, threads, motion, storage_options):
            if picture is None and threads > 1:
                raise _Damage
            held.append((pts, picture))
            if len(held) > num_held:
                yield held.popleft()
                num_done += 1
        yield from held
    except _Damage:
        # Decoding in several threads conceals and loses other frames than in one. Damage is rare: what a damaged
        # range looks like is defined by one thread, from the range's own starting point.
        again = _read_range(uri, start_pts, end_pts, 1, motion, storage_options)
        yield from islice(again, num_done, None)


class _Damage(Exception):
    """The stream is damaged and several threads decode it."""


@dataclass(frozen=True)
class _Event:
    """What decoding saw next: a packet (frame is None; dts as far as known) or a decoded frame."""

    pts: int
    dts: int | None
    frame: av.VideoFrame | None


def _read_range(
    uri: str, start_pts: int, end_pts: int | None, threads: int, motion: bool, storage_options: StorageOptions | None
) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Start a margin before the range, twice as far each time until the decoder is in step when the range begins.

    Why a margin: a seek in MPEG-TS lands behind the I-frame; frames that lead an open-GOP I-frame are dropped after a
    seek; an intra-refresh stream needs a whole refresh before its first frame.
    """
    margin_s = _FIRST_MARGIN_S
    while True:
        with open_video(uri, storage_options) as container:
            stream = video_stream(container, uri)
            target = start_pts - int(margin_s / time_base(stream))
            from_start = not _seek(container, stream, target)
            events = _decode_events(container, stream, uri, threads, motion)
            limit = None if from_start else start_pts + int(_FIRST_MARGIN_S / time_base(stream))
            head = _read_until_frame(events, limit)
            in_step = bool(head) and head[-1].frame is not None and head[-1].pts <= start_pts
            if in_step or from_start:
                yield from _pair_frames(chain(head, events), start_pts, end_pts, redact_uri(uri))
                return
        margin_s *= 2


def _seek(container: InputContainer, stream: av.VideoStream, target: int) -> bool:
    """Seek to the sync point at or before `target`; False where the file has to be read from its start instead."""
    if target <= (stream.start_time or 0):
        return False
    try:
        container.seek(target, stream=stream)
        return True
    except av.error.FFmpegError:  # a container without an index
        return False


def _decode_events(
    container: InputContainer, stream: av.VideoStream, uri: str, threads: int, motion: bool
) -> Iterator[_Event]:
    """Packets and the frames they bring out, until the end of the file."""
    decoder = stream.codec_context
    decoder.thread_type = "AUTO" if threads > 1 else "NONE"
    decoder.thread_count = threads
    if motion:
        decoder.flags2 |= Flags2.export_mvs
        decoder.thread_type = "SLICE"  # measured: with threads over frames, vectors of B-frames differ now and then
    errors: list[str] = []
    in_step = False  # errors before the first frame are those of starting in the middle
    for packet in chain(read_packets(container, stream, uri, errors), [None]):
        if packet is not None:
            packet.pts = packet_pts(packet)
            if packet.pts is not None and not packet.is_discard:
                yield _Event(packet.pts, packet.dts, None)
        frames: list[av.VideoFrame] = []
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError as error:
            errors.append(str(error))
        if threads > 1 and ((in_step and errors) or any(frame.is_corrupt for frame in frames)):
            raise _Damage
        if not in_step:
            errors.clear()
        in_step = in_step or bool(frames)
        yield from (_Event(frame.pts, None, frame) for frame in frames if frame.pts is not None)


def _read_until_frame(events: Iterator[_Event], limit_pts: int | None) -> list[_Event]:
    """Events up to the first decoded frame; without one when packets run past `limit_pts` or end."""
    head: list[_Event] = []
    for event in events:
        head.append(event)
        if event.frame is not None or (limit_pts is not None and event.pts > limit_pts):
            break
    return head


def _pair_frames(
    events: Iterable[_Event], start_pts: int, end_pts: int | None, name: str
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
        while waiting and (dts is None or dts >= waiting[0][0] or len(waiting) > _MAX_REORDERED):
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


def prefetch(iterator: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The same items, made in a thread at most `depth` ahead of the consumer.

    The thread starts with the first item asked for. Errors arrive where the item would have. Closing the generator
    stops the thread at its next item, closes the source iterator and waits for both.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; at least 1 item must be held")
    results: queue.SimpleQueue[tuple[Literal["item", "end", "error"], T | BaseException | None]] = queue.SimpleQueue()
    slots = threading.Semaphore(depth)  # one per item that is being made or waits
    closed = threading.Event()

    def produce() -> None:
        source = iter(iterator)
        try:
            while slots.acquire() and not closed.is_set():
                results.put(("item", next(source)))
        except StopIteration:
            results.put(("end", None))
        except BaseException as error:
            results.put(("error", error))
        finally:
            getattr(source, "close", lambda: None)()

    thread = threading.Thread(target=produce, name="gsvnet-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = results.get()
            if kind == "end":
                return
            if kind == "error":
                raise cast(BaseException, value)
            slots.release()
            yield cast(T, value)
    finally:
        closed.set()
        slots.release()
        thread.join()
