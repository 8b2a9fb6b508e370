"""How a process that labels behaves: beside others on its cores, and with the memory that it was given."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
_ALL_BYTES = 2**31 - 1
_KEPT_BYTES = 1 << 30  # of freed memory, between shards


def yield_idle_cores() -> None:
    """Let OpenMP threads sleep while they wait instead of spinning; call before torch is imported.

    A worker decodes, segments and encodes at once, so cores are shared by design. Spinning threads then hold up those
    that they wait for: on two cores of which another process used one, labeling ran up to twenty times slower.
    A policy that the user set stands. Labels do not change.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def child_processes() -> dict[int, str]:
    """Ids and command lines of the processes that this one started and that are there; empty where no system tells."""
    found = {}
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            for pid in path.read_text().split():
                with contextlib.suppress(OSError):
                    found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    return found


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as Ctrl-C does, so that what was begun is put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def limited_memory(num_bytes: int) -> Iterator[None]:
    """In the block this process gets at most `num_bytes` more memory of its own, then MemoryError; on Linux alone.

    Counted is what is asked for, used or not, by all threads; memory shared with other processes does not count.
    """
    try:
        import resource

        now_kb = re.search(r"^VmData:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except (ImportError, OSError):  # another system
        now_kb = None
    if now_kb is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (int(now_kb[1]) * 1024 + num_bytes, *before)
    resource.setrlimit(resource.RLIMIT_DATA, (min(n for n in wanted if n != resource.RLIM_INFINITY), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed, for the whole process; does nothing where malloc is not glibc's.

    By default every feature map beyond 32 MB is fetched from the kernel and given back, page by page: SwiftNet at
    768x1536 in float32 spends a third of its time on that. Kept, the process holds its peak until it ends (12 % above
    the peak before). Labels do not change.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _ALL_BYTES)
        mallopt(_M_ARENA_MAX, 1)  # one arena: only the first can grow beyond 64 MB


def return_freed_memory() -> None:
    """Give the kernel what is freed, where that is over 1 GiB; does nothing where malloc is not glibc's.

    For between shards. Buffers of large pictures lie at aligned addresses, and glibc finds no room for the next
    decoder's among those that the last one freed: with `keep_freed_memory` a worker would grow from video to video.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _MallocInfo
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident - libc.mallinfo2().uordblks > _KEPT_BYTES:
            libc.malloc_trim(0)


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; `uordblks` is the number of bytes in use."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip
