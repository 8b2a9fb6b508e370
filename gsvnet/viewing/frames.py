"""Frames as the viewer asks for them: the picture as JPEG, the labels as PNG, the row; what was asked for is kept."""

from __future__ import annotations

import io
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np
from PIL import Image

from gsvnet.errors import DecodeError, GsvnetError, VideoError
from gsvnet.reading.pictures import LabeledPicture, stream_pictures
from gsvnet.store.codec import decode_mask
from gsvnet.store.drift import read_drift
from gsvnet.store.read import LabeledFrame, Labels
from gsvnet.uris import StorageOptions, redact_text

_KEPT_BYTES = 128 * 2**20
_KEPT_RANGES = 64  # videos
_KEPT_DRIFT = 8  # videos; 16 bytes for each of their keyframes
_GO_ON_FRAMES = 30  # decoding on to a frame this near costs less than seeking
_ASK_AGAIN_S = 30.0
_QUALITY = 88


class NoPicture(GsvnetError):
    """A frame has no picture. whole_video: none of the video's frames has, for now."""

    def __init__(self, message: str, *, whole_video: bool) -> None:
        super().__init__(message)
        self.whole_video = whole_video


class FrameReader:
    """Reads frames of one output; any thread may ask. Pictures are decoded one at a time.

    source, video_options: see `stream_pictures`. kept_bytes: of encoded pictures and labels in memory.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        source: str | None = None,
        video_options: StorageOptions | None = None,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        self._labels, self._source, self._video_options = labels, source, video_options
        self._kept = _KeptBytes(kept_bytes)
        self._ranges = lru_cache(maxsize=_KEPT_RANGES)(self._read_ranges)
        self._drift = lru_cache(maxsize=_KEPT_DRIFT)(partial(read_drift, labels))
        self._decoding = threading.Lock()
        self._stream: Iterator[LabeledPicture] = iter(())
        self._next: tuple[str, int] = ("", 0)  # video and frame that the stream gives next
        self._unreadable: dict[str, tuple[float, str]] = {}

    def has_frame(self, video: str, frame: int) -> bool:
        """Whether the frame has a row."""
        return any(start <= frame < stop for start, stop in self._ranges(video))

    def _read_ranges(self, video: str) -> list[tuple[int, int]]:
        """[start, stop) of the frames of each shard."""
        return [(source.first_frame, source.stop_frame) for source in self._labels.sources(video)]

    def read_frame(self, video: str, frame: int) -> LabeledFrame:
        """A frame's row and labels. Raises StoreError for one without a row."""
        return next(self._labels.stream(video, np.array([frame])))

    def read_labels(self, video: str, frame: int) -> bytes:
        """Class ids, 255 = ignore, as an 8-bit grayscale PNG."""
        key = ("labels", video, frame)
        found = self._kept.get(key)
        if found is None:
            found = _encode(self.read_frame(video, frame).labels, "PNG")
            self._kept.put(key, found)
        return found

    def read_drift(self, video: str, frame: int) -> float | None:
        """Drift of the chunk that holds a frame; None where it was not measured. A video's is read once."""
        return self._drift(video).at(frame)

    def read_uncertain(self, video: str, frame: int) -> bytes | None:
        """Where ways to a frame's labels differ: 1, else 0, as an 8-bit grayscale PNG; None where there is one way."""
        row = self.read_frame(video, frame).row
        if row.mask_uncertain is None:
            return None
        return _encode(decode_mask(row.mask_uncertain, row.height, row.width), "PNG")

    def read_picture(self, video: str, frame: int) -> bytes:
        """The frame's own picture as JPEG. Raises NoPicture for a lost frame, or a video that cannot be read."""
        key = ("picture", video, frame)
        found = self._kept.get(key)
        if found is None:
            self._check_readable(video)
            with self._decoding:
                found = _encode(self._decode(video, frame), "JPEG")
            self._kept.put(key, found)
        return found

    def _check_readable(self, video: str) -> None:
        until_s, problem = self._unreadable.get(video, (0.0, ""))
        if time.monotonic() < until_s:
            raise NoPicture(problem, whole_video=True)

    def _decode(self, video: str, frame: int) -> np.ndarray:
        """RGB (H, W, 3) uint8: by decoding on where the last picture was just before, else by seeking."""
        try:
            if not (self._next[0] == video and self._next[1] <= frame < self._next[1] + _GO_ON_FRAMES):
                self._seek(video, frame)
            for picture in self._stream:
                self._next = (video, picture.frame_index + 1)
                if picture.frame_index == frame:
                    return picture.image
                if picture.frame_index > frame:
                    break
        except Exception as error:
            self._next = ("", 0)
            raise self._explain(video, error) from error
        self._next = ("", 0)
        raise NoPicture(f"frame {frame} was lost in decoding", whole_video=False)

    def _seek(self, video: str, frame: int) -> None:
        indices = self._labels.indices(video)
        wanted = indices[np.searchsorted(indices, frame) :]
        self._stream = stream_pictures(
            self._labels, video, wanted, source=self._source, video_options=self._video_options
        )

    def _explain(self, video: str, error: Exception) -> Exception:
        if isinstance(error, DecodeError):
            return NoPicture(redact_text(str(error)), whole_video=False)
        if isinstance(error, ImportError):
            error = VideoError("PyAV is not installed (pip install 'gsvnet[view]')")
        if isinstance(error, VideoError):
            problem = redact_text(str(error))
            self._unreadable[video] = (time.monotonic() + _ASK_AGAIN_S, problem)
            return NoPicture(problem, whole_video=True)
        return error


class _KeptBytes:
    """The objects that were used last, together at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._entries: OrderedDict[tuple, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> bytes | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: tuple, data: bytes) -> None:
        with self._lock:
            self._num_bytes += len(data) - len(self._entries.pop(key, b""))
            self._entries[key] = data
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= len(self._entries.popitem(last=False)[1])


def _encode(image: np.ndarray, kind: str) -> bytes:
    sink = io.BytesIO()
    options = {"quality": _QUALITY} if kind == "JPEG" else {"compress_level": 1, "compress_type": zlib.Z_RLE}
    Image.fromarray(image).save(sink, kind, **options)
    return sink.getvalue()
