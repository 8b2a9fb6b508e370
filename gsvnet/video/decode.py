"""Frames of a video by time range: exact, complete, and the same wherever decoding starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING

import av
import numpy as np
from av.codec.context import Flags2
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from gsvnet.choices import FrameStatus
from gsvnet.errors import DecodeError, SourceChanged, SourceUnavailable, VideoError
from gsvnet.uris import StorageOptions, redact_uri
from gsvnet.video.damage import DamageTrail, Picture, mark_after_losses, mark_backwards
from gsvnet.video.frames import View, render_full_size, render_views
from gsvnet.video.nvdec import Decoder, cuda_acceleration, render_on_device
from gsvnet.video.packets import packet_pts, read_packets
from gsvnet.video.pairing import MAX_REORDERED, Event, pair_frames
from gsvnet.video.probe import frame_rotation, open_video, time_base, video_stream

if TYPE_CHECKING:
    from torch import Tensor

_FIRST_MARGIN_S = Fraction(1)
_NOT_THE_DECODER = (SourceUnavailable, SourceChanged)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of a video. index: in the video, display order. pts: ticks.

    images: one (h, w, 3) RGB array per requested view, empty when the frame is lost (status "decode_error"). From
    NVDEC they are tensors on the GPU; arrays for frames that the CPU had to render.
    status "damaged": the decoder met damage in the frame, or in one that it may have been predicted from.
    """

    index: int
    pts: int
    images: tuple[np.ndarray, ...] | tuple[Tensor, ...]
    status: FrameStatus

    @property
    def is_lost(self) -> bool:
        """Whether there is no image of it."""
        return self.status == "decode_error"


def read_frames(
    uri: str,
    *,
    first_frame: int,
    start_pts: int,
    end_pts: int | None,
    views: Callable[[int], Sequence[View]],
    rotation: int = 0,
    threads: int = 1,
    decoder: Decoder = "cpu",
    storage_options: StorageOptions | None = None,
    identity: str | None = None,
) -> Generator[Frame, None, None]:
    """Every frame with start_pts <= pts < end_pts (None: to the end), once, in display order.

    first_frame: index of the frame at start_pts. views(index): the sizes to render of that frame, may be none.
    identity: of the planned file, as `video_identity` says; None: whatever is there.
    A frame whose packet is there but which the decoder never gives out has status "decode_error", so indices never
    shift. In an undamaged file, frames and pixels do not depend on where the range starts or on `threads`.
    Raises VideoNotFound, NotAVideo, DecodeError when reading cannot go on, SourceUnavailable when storage does not
    answer, and SourceChanged when the file is another one or becomes one before the last frame.
    """
    pictures = read_pictures(
        uri,
        start_pts=start_pts,
        end_pts=end_pts,
        threads=threads,
        decoder=decoder,
        storage_options=storage_options,
        identity=identity,
    )
    for index, picture in enumerate(pictures, start=first_frame):
        yield make_frame(index, picture, views, rotation)


def make_frame(index: int, picture: Picture, views: Callable[[int], Sequence[View]], rotation: int) -> Frame:
    """The Frame of a picture, with the views that are wanted of it."""
    image = picture.image
    if image is None:
        return Frame(index=index, pts=picture.pts, images=(), status="decode_error")
    render = render_on_device if image.format.name == "cuda" else render_views
    status: FrameStatus = "damaged" if picture.damaged else "ok"
    return Frame(index=index, pts=picture.pts, images=render(image, views(index), rotation), status=status)


def read_frame_at(
    uri: str, pts: int, *, storage_options: StorageOptions | None = None, identity: str | None = None
) -> np.ndarray:
    """Upright full-size RGB image (H, W, 3) uint8 of the frame at exactly `pts`. Raises as `read_images` does."""
    return next(read_images(uri, [pts], storage_options=storage_options, identity=identity))


def read_images(
    uri: str, pts: Iterable[int], *, storage_options: StorageOptions | None = None, identity: str | None = None
) -> Iterator[np.ndarray]:
    """Upright full-size RGB images (H, W, 3) uint8 of the frames at exactly these times, ascending ticks.

    All that lies between them is decoded: for frames far apart, ask once for each. identity: as for `read_frames`.
    Raises DecodeError for a time without a decodable frame, and what `read_frames` raises.
    """
    wanted = iter(pts)
    target = next(wanted, None)
    if target is None:
        return
    pictures = read_pictures(uri, start_pts=target, end_pts=None, storage_options=storage_options, identity=identity)
    for picture in pictures:
        if picture.pts == target and picture.image is not None:
            yield render_full_size(picture.image, frame_rotation(picture.image))
            target = next(wanted, None)
            if target is None:
                return
        elif picture.pts >= target:
            break
    raise DecodeError("no decodable frame at this time", uri=redact_uri(uri), pts=target)


def read_pictures(
    uri: str,
    *,
    start_pts: int,
    end_pts: int | None,
    threads: int = 1,
    motion: bool = False,
    decoder: Decoder = "cpu",
    storage_options: StorageOptions | None = None,
    identity: str | None = None,
) -> Iterator[Picture]:
    """Every frame of [start_pts, end_pts) in display order, lost ones too.

    motion: images carry the codec's motion vectors as side data, where FFmpeg's decoder gives them out.
    decoder: "nvdec" decodes on the GPU, and leaves the frames there, as long as the stream is whole.
    """
    source = _Source(uri, storage_options, identity)
    decoding = _Decoding(threads=1 if decoder == "nvdec" else threads, motion=motion, decoder=decoder)
    num_done = 0
    # A damaged reference picture comes out after the B-frames that were made from it: hold those back until then.
    held: deque[Picture] = deque()
    num_held = MAX_REORDERED if decoding.conceals else 0
    try:
        for picture in _read_range(source, start_pts, end_pts, decoding):
            if picture.image is None and decoding.conceals:
                raise _Damage
            held.append(picture)
            if len(held) > num_held:
                yield held.popleft()
                num_done += 1
        yield from held
    except (_Damage, VideoError) as error:
        if isinstance(error, VideoError) and (decoder == "cpu" or isinstance(error, _NOT_THE_DECODER)):
            raise
        # Several threads, and NVDEC, conceal and lose other frames than one thread does. Damage is rare: what a damaged
        # range looks like is defined by one thread, from the range's own starting point.
        alone = _Decoding(threads=1, motion=motion, decoder="cpu")
        again = _read_range(source, start_pts, end_pts, alone)
        yield from islice(again, num_done, None)


@dataclass(frozen=True)
class _Source:
    """A file that may have to be opened more than once."""

    uri: str
    storage_options: StorageOptions | None
    identity: str | None

    def open(self, hwaccel: HWAccel | None) -> AbstractContextManager[InputContainer]:
        return open_video(self.uri, self.storage_options, hwaccel=hwaccel, identity=self.identity)


@dataclass(frozen=True, kw_only=True)
class _Decoding:
    """How packets become frames."""

    threads: int
    motion: bool
    decoder: Decoder

    @property
    def conceals(self) -> bool:
        """Whether damage looks different from what one thread of the CPU makes of it."""
        return self.threads > 1 or self.decoder == "nvdec"


class _Damage(Exception):
    """The stream is damaged, or the GPU fails on it, and one thread of the CPU has to say what it looks like."""


def _read_range(source: _Source, start_pts: int, end_pts: int | None, decoding: _Decoding) -> Iterator[Picture]:
    """Start a margin before the range, twice as far each time until the decoder is in step when the range begins.

    Why a margin: a seek in MPEG-TS lands behind the I-frame; frames that lead an open-GOP I-frame are dropped after a
    seek; an intra-refresh stream needs a whole refresh before its first frame.
    """
    margin_s, from_start = _FIRST_MARGIN_S, False
    while True:
        with source.open(_acceleration(decoding)) as container:
            uri, stream = source.uri, video_stream(container, source.uri)
            target = start_pts - int(margin_s / time_base(stream))
            from_start = from_start or target <= (stream.start_time or 0)
            if not from_start and not _seek(container, stream, target):
                from_start = True  # in a file opened anew: a seek that failed may have passed the first packets
                continue
            events = _decode_events(container, stream, uri, decoding)
            limit = None if from_start else start_pts + int(_FIRST_MARGIN_S / time_base(stream))
            head = _read_until_frame(events, limit)
            in_step = bool(head) and head[-1].picture is not None and head[-1].pts <= start_pts
            if in_step or from_start:
                # Read beyond the end: what follows says whether the last B-frames were made from a damaged picture.
                pictures = pair_frames(chain(head, events), start_pts, redact_uri(uri))
                if not decoding.conceals:
                    pictures = mark_backwards(mark_after_losses(pictures))
                yield from takewhile(lambda picture: end_pts is None or picture.pts < end_pts, pictures)
                return
        margin_s *= 2


def _acceleration(decoding: _Decoding) -> HWAccel | None:
    """What decodes instead of the CPU; a GPU that fails raises _Damage."""
    if decoding.decoder == "cpu":
        return None
    try:
        return cuda_acceleration()
    except RuntimeError as error:
        raise _Damage from error


def _seek(container: InputContainer, stream: av.VideoStream, target: int) -> bool:
    """Seek to the sync point at or before `target`; False where the file has to be read from its start instead."""
    try:
        container.seek(target, stream=stream)
        return True
    except av.error.FFmpegError:  # a container without an index
        return False


def _decode_events(container: InputContainer, stream: av.VideoStream, uri: str, decoding: _Decoding) -> Iterator[Event]:
    """Packets and the frames they bring out, until the end of the file."""
    decoder = stream.codec_context
    decoder.thread_type = "AUTO" if decoding.threads > 1 else "NONE"
    decoder.thread_count = decoding.threads
    if decoding.motion:
        decoder.flags2 |= Flags2.export_mvs
        decoder.thread_type = "SLICE"  # measured: with threads over frames, vectors of B-frames differ now and then
    errors: list[str] = []
    trail = DamageTrail()
    in_step = False  # errors before the first frame are those of starting in the middle
    for packet in chain(read_packets(container, stream, uri, errors), [None]):
        if packet is not None:
            packet.pts = packet_pts(packet)
            if packet.pts is not None and not packet.is_discard:
                yield Event(packet.pts, packet.dts, None)
        frames: list[av.VideoFrame] = []
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError as error:
            errors.append(str(error))
        damaged = in_step and (bool(errors) or (packet is not None and packet.is_corrupt))
        if decoding.conceals and (damaged or any(frame.is_corrupt for frame in frames)):
            raise _Damage
        if damaged:
            trail.begin(None if packet is None else packet.pts)
        errors.clear()
        in_step = in_step or bool(frames)
        yield from (Event(frame.pts, None, trail.take(frame)) for frame in frames if frame.pts is not None)


def _read_until_frame(events: Iterator[Event], limit_pts: int | None) -> list[Event]:
    """Events up to the first decoded frame; without one when packets run past `limit_pts` or end."""
    head: list[Event] = []
    for event in events:
        head.append(event)
        if event.picture is not None or (limit_pts is not None and event.pts > limit_pts):
            break
    return head
