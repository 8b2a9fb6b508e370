"""Busy seconds per stage of a worker, from several threads at once."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class StageClock:
    """Adds up how long each stage was at work. Stages overlap, so their sum may exceed the total."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._began_s = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as part of stage `name`."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[name] += time.monotonic() - began_s

    def next_of(self, name: str, items: Iterator[Item]) -> Item | None:
        """The iterator's next item, timed; None at its end."""
        with self.stage(name):
            return next(items, None)

    def timed(self, name: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time that making them takes is the stage's."""
        while (item := self.next_of(name, items)) is not None:
            yield item

    def read(self) -> dict[str, float]:
        """Seconds per stage, and "total": wall time since the clock was made."""
        with self._lock:
            return {**self._seconds, "total": time.monotonic() - self._began_s}
