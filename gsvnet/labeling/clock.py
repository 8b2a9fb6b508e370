"""Busy seconds per stage of a worker, from several threads at once: of wall time, and of the cores."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

Item = TypeVar("Item")
_THREADS = Path("/proc/self/task")
DECODER_THREADS = "av:"  # how FFmpeg names the threads of its decoders


@dataclass
class Seconds:
    """wall: at work, by the clock on the wall. cores: of processor time."""

    wall: float = 0.0
    cores: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Timed(Generic[Item]):
    """An item and how long it took to make."""

    item: Item
    took: Seconds = field(default_factory=Seconds)


class StageClock:
    """Adds up how long each stage was at work. Stages overlap, so their sum may exceed the total."""

    def __init__(self) -> None:
        self._stages: dict[str, Seconds] = defaultdict(Seconds)
        self._lock = threading.Lock()
        self._began = Seconds(time.monotonic(), time.process_time())

    def add(self, name: str, seconds: Seconds) -> None:
        """Count seconds of stage `name` that were measured elsewhere."""
        with self._lock:
            self._stages[name].wall += seconds.wall
            self._stages[name].cores += seconds.cores

    def count(self, name: str, timed: Timed[Item]) -> Item:
        """The item, after the time that it took was added to stage `name`."""
        self.add(name, timed.took)
        return timed.item

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as part of stage `name`; of the cores, what this thread uses."""
        try:
            with timing() as took:
                yield
        finally:
            self.add(name, took)

    def wall(self) -> dict[str, float]:
        """Seconds per stage, and "total": since the clock was made."""
        with self._lock:
            total = time.monotonic() - self._began.wall
            return {name: seconds.wall for name, seconds in self._stages.items()} | {"total": total}

    def cores(self) -> dict[str, float]:
        """Processor seconds per stage, and "total": of the whole process, with threads that belong to no stage."""
        with self._lock:
            total = time.process_time() - self._began.cores
            return {name: seconds.cores for name, seconds in self._stages.items()} | {"total": total}


def timed_decoding(items: Iterator[Item]) -> Iterator[Timed[Item]]:
    """The same items with the time that making each took; FFmpeg's own decoding threads count as cores too."""
    helpers = thread_seconds(DECODER_THREADS)
    while True:
        with timing() as took:
            item = next(items, None)
        if item is None:
            return
        before, helpers = helpers, thread_seconds(DECODER_THREADS)
        took.cores += max(0.0, helpers - before)  # less than before: the decoder was opened anew
        yield Timed(item=item, took=took)


@contextmanager
def timing() -> Iterator[Seconds]:
    """Seconds that hold, once the block has ended, how long it took; of the cores, what this thread used."""
    took = Seconds()
    wall, cores = time.monotonic(), time.thread_time()
    try:
        yield took
    finally:
        took.wall, took.cores = time.monotonic() - wall, time.thread_time() - cores


def thread_seconds(prefix: str) -> float:
    """Processor seconds of this process's threads whose names begin with `prefix`; 0 where Linux's /proc is not."""
    ticks = 0
    for thread in _THREADS.iterdir() if _THREADS.is_dir() else ():
        with contextlib.suppress(OSError):  # it has ended
            name, _, rest = (thread / "stat").read_text().partition("(")[2].rpartition(")")
            if name.startswith(prefix):
                ticks += sum(map(int, rest.split()[11:13]))  # in user mode and in the kernel
    return ticks / os.sysconf("SC_CLK_TCK")
