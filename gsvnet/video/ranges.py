"""Bytes of a file in object storage, by ranged reads: few requests, little read for nothing, outages waited for.

A read fetches a window: 1 MiB after a jump, then 2 MiB and more (half of what was read without a jump, at most 8
MiB), or all that is left where that is little: the tables at the end of an MP4. While a container is being opened
windows are half as long, and kept for the next shard of the same file. For 10 s (300 frames, 3.7 MB, and up to 3 s
before them that decoding needs) in the middle of one hour at 3 Mbit/s, 1.35 GB, as `tests/video/test_ranges.py` counts:

| file | GETs, MB of the first shard | of the next ones | of the first by fsspec's readahead of 1 MiB |
|---|---|---|---|
| MP4, moov at the end | 5, 6.8 | 3, 5.2 | 8, 7.9 |
| MP4, faststart | 5, 6.8 | 3, 5.2 | 6, 6.7 |
| MKV, cues at the end | 5, 5.8 | 4, 5.3 | 6, 5.4 |
| MPEG-TS | 5, 6.0 | 3, 5.2 | 10, 7.8 |
| MP4 in fragments, with mfra | 7, 6.6 | 3, 5.2 | 906, 979 |
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from gsvnet.outages import retry_outages

FIRST_WINDOW_BYTES, NEXT_WINDOW_BYTES, LONGEST_WINDOW_BYTES = 1 << 20, 2 << 20, 8 << 20  # halves while opening
TAIL_BYTES = 4 << 20
MANY_JUMPS, HEADER_BYTES = 8, 64 << 10
KEPT_PER_FILE_BYTES, KEPT_BYTES = 8 << 20, 48 << 20

Window = tuple[int, bytes]  # where it starts in the file, and its bytes


class KeptWindows:
    """What was fetched while files were opened, newest files first; bounded, shared by all threads of a process."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._windows: OrderedDict[tuple[str, str], list[Window]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, file: tuple[str, str]) -> list[Window]:
        """Windows of a file, named by URI and identity."""
        with self._lock:
            if file in self._windows:
                self._windows.move_to_end(file)
            return list(self._windows.get(file, ()))

    def keep(self, file: tuple[str, str], window: Window) -> bool:
        """Keep one more window of a file, if it has few enough; forget files that were not asked for lately."""
        with self._lock:
            windows = self._windows.setdefault(file, [])
            fits = sum(len(data) for _, data in windows) + len(window[1]) <= KEPT_PER_FILE_BYTES
            if fits:
                windows.append(window)
            self._windows.move_to_end(file)
            while sum(len(data) for kept in self._windows.values() for _, data in kept) > self._max_bytes:
                self._windows.popitem(last=False)
            return fits


_kept = KeptWindows(KEPT_BYTES)


class RangedReader:
    """A file read through `fetch(start, stop)`, window by window. One thread at a time.

    file: URI and identity; None: nothing is kept of it.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, file: tuple[str, str] | None = None) -> None:
        self._fetch, self._size, self._file = fetch, size, file
        self._opening = True
        self._known: list[Window] = _kept.of(file) if file else []
        self._window: Window = (0, b"")
        self._run_bytes, self._num_jumps = 0, 0  # fetched since the last jump; jumps in all

    def end_opening(self) -> None:
        """Say that what is read from now on belongs to one range only and need not be kept."""
        self._opening = False

    def read(self, start: int, num_bytes: int) -> bytes:
        """At most num_bytes from `start`, at least one unless that is the end of the file."""
        if start >= self._size or num_bytes <= 0:
            return b""
        for first, data in (self._window, *self._known):
            if first <= start < first + len(data):
                return data[start - first : start - first + num_bytes]
        self._window = self._fetch_window(start, num_bytes)
        return self._window[1][:num_bytes]

    def _fetch_window(self, start: int, num_bytes: int) -> Window:
        window = start, retry_outages()(self._fetch_all, start, self._choose_stop(start, num_bytes))
        self._run_bytes += len(window[1])
        if self._opening and self._file and _kept.keep(self._file, window):
            self._known.append(window)
        return window

    def _choose_stop(self, start: int, num_bytes: int) -> int:
        if self._size - start <= TAIL_BYTES:
            return self._size
        goes_on = any(first + len(data) == start for first, data in (self._window, *self._known) if data)
        self._run_bytes = self._run_bytes if goes_on else 0
        next_bytes = min(max(self._run_bytes // 2, NEXT_WINDOW_BYTES), LONGEST_WINDOW_BYTES)
        window_bytes = (next_bytes if goes_on else FIRST_WINDOW_BYTES) // (2 if self._opening else 1)
        self._num_jumps += not goes_on
        if self._opening and self._num_jumps > MANY_JUMPS:  # from header to header, as in fragmented MP4
            window_bytes = HEADER_BYTES
        later = [first for first, _ in self._known if first > start]
        return min([self._size, start + max(num_bytes, window_bytes), *later])

    def _fetch_all(self, start: int, stop: int) -> bytes:
        data = self._fetch(start, stop)
        if len(data) != stop - start:
            raise ConnectionError(f"{len(data)} of {stop - start} bytes came")
        return data
