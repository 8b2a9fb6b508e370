"""How many batches fit into memory at once. On a CPU there is no error to catch: who takes too much is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from gsvnet.errors import VideoError
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.words import size_in_words

_MEMINFO, _STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
_GROUPS, _GROUP_FILES = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


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

    A worker's share of the memory is that of its lanes among the cores, for others may work beside it, and no more than
    is free now. One batch is always tried: that others hold the memory at the moment says nothing of the video. Raises
    VideoError where a batch is larger than all the memory there is.
    """
    if not isinstance(model, KnowsItsMemory):
        return num_lanes
    needed = model.peak_bytes(height, width, interval, num_chunks=num_chunks)
    free, total = free_bytes(), total_bytes()
    if total is None:
        return num_lanes
    if needed > total:
        raise VideoError(
            f"frames of {height}x{width} need about {size_in_words(needed)} of memory and {size_in_words(total)} are "
            "there; label it where there is more, or with a smaller --batch-chunks or network"
        )
    share = total * num_lanes // max(num_lanes, len(os.sched_getaffinity(0)))
    return max(1, min(num_lanes, share // needed, (share if free is None else free) // needed))


def total_bytes() -> int | None:
    """Memory that this process may have: of the machine, or of the container or job around it; None: not told."""
    return _least(_read_kilobytes(_MEMINFO, "MemTotal"), *(group.limit() for group in _memory_groups()))


def free_bytes() -> int | None:
    """What this process may take in all: what nobody uses, and what it has already, which it uses again."""
    own = _read_kilobytes(_STATUS, "VmRSS")
    free = _least(_read_kilobytes(_MEMINFO, "MemAvailable"), *(group.free() for group in _memory_groups()))
    return None if free is None or own is None else max(0, free) + own


class _MemoryGroup:
    """A control group of Linux that may limit memory: its folder, and what its version calls its files."""

    def __init__(self, folder: Path, limit: str, used: str, reclaimable: str) -> None:
        self._limit, self._used, self._stat = folder / limit, folder / used, folder / "memory.stat"
        self._reclaimable = reclaimable

    def limit(self) -> int | None:
        """Bytes; None for a group without a limit."""
        return _read_number(self._limit)

    def free(self) -> int | None:
        """Bytes up to the limit, with the file cache that the kernel drops before it kills."""
        limit, used = self.limit(), _read_number(self._used)
        if limit is None or used is None:
            return None
        stat = _read_lines(self._stat)
        return limit - used + next((int(s.split()[1]) for s in stat if s.startswith(f"{self._reclaimable} ")), 0)


def _memory_groups() -> Iterator[_MemoryGroup]:
    """This process's group and all around it: each limits it, also those of version 1 (Slurm, older Docker)."""
    for line in _read_lines(_GROUPS):
        _, controllers, path = line.split(":", 2)
        inner = PurePosixPath(path.lstrip("/"))  # as it looks from inside a container, there may be no such folder
        for group in (inner, *inner.parents):
            if not controllers:
                yield _MemoryGroup(_GROUP_FILES / group, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                folder = _GROUP_FILES / "memory" / group
                yield _MemoryGroup(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _read_kilobytes(file: Path, name: str) -> int | None:
    """A line such as "MemTotal:  16314232 kB", in bytes."""
    return next((1024 * int(line.split()[1]) for line in _read_lines(file) if line.startswith(f"{name}:")), None)


def _read_lines(file: Path) -> list[str]:
    """No lines for a file that is not there."""
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _read_number(file: Path) -> int | None:
    """None for a file that is not there or says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
