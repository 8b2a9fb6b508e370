"""How a process that labels behaves: beside others on its cores, and with the memory that it was given."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
_ALL_BYTES = 2**31 - 1


def yield_idle_cores() -> None:
    """Let OpenMP threads sleep while they wait instead of spinning; call before torch is imported.

    A worker decodes, segments and encodes at once, so cores are shared by design. Spinning threads then hold up those
    that they wait for: on two cores of which another process used one, labeling ran up to twenty times slower.
    A policy that the user set stands. Labels do not change.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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
