"""How many batches fit into memory at once. On a CPU there is no error to catch: who takes too much is killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from gsvnet.errors import VideoError
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.words import size_in_words

_MEMINFO, _STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
_CONTAINER = Path("/sys/fs/cgroup")  # version 2, as it looks from inside


@runtime_checkable
class KnowsItsMemory(Protocol):
    """A network that can say about how many bytes a batch takes at most."""

    def peak_bytes(self, height: int, width: int, interval: int, *, num_chunks: int = 1) -> int:
        """Of a batch of `num_chunks` chunks of `interval` frames of a video of this size."""
        ...


def lanes_that_fit(
    model: VideoSegmenter, *, height: int, width: int, interval: int, num_chunks: int, num_lanes: int
) -> int:
    """How many batches may be at work at once, 1..num_lanes; all for networks that do not say what they take.

    A worker's share of the memory is that of its lanes among the cores: others may work beside it. Raises VideoError
    where not even one batch fits into what is free.
    """
    if not isinstance(model, KnowsItsMemory):
        return num_lanes
    needed = model.peak_bytes(height, width, interval, num_chunks=num_chunks)
    free, total = free_bytes(), total_bytes()
    if free is not None and needed > free:
        raise VideoError(
            f"frames of {height}x{width} need about {size_in_words(needed)} of memory and {size_in_words(free)} are "
            "free; label it where there is more, or with a smaller --batch-chunks or network"
        )
    if total is None:
        return num_lanes
    share = total * num_lanes // max(num_lanes, len(os.sched_getaffinity(0)))
    return max(1, min(num_lanes, share // needed))


def total_bytes() -> int | None:
    """Memory of this machine or container; None where Linux's files do not tell."""
    return _least(_read_kilobytes(_MEMINFO, "MemTotal"), _read_number(_CONTAINER / "memory.max"))


def free_bytes() -> int | None:
    """What this process may take in all: what nobody uses, and what it has already, which it uses again."""
    own = _read_kilobytes(_STATUS, "VmRSS")
    machine = _read_kilobytes(_MEMINFO, "MemAvailable")
    limit, used = _read_number(_CONTAINER / "memory.max"), _read_number(_CONTAINER / "memory.current")
    container = None if limit is None or used is None else limit - used + _read_reclaimable()
    free = _least(machine, container)
    return None if free is None or own is None else max(0, free) + own


def _read_reclaimable() -> int:
    """Bytes of the container's file cache that the kernel drops before it kills."""
    try:
        lines = (_CONTAINER / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _read_kilobytes(file: Path, name: str) -> int | None:
    """A line such as "MemTotal:  16314232 kB", in bytes."""
    try:
        line = next((line for line in file.read_text().splitlines() if line.startswith(f"{name}:")), None)
    except OSError:
        return None
    return None if line is None else 1024 * int(line.split()[1])


def _read_number(file: Path) -> int | None:
    """None for a file that is not there or says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
