"""One side of a comparison in a process of its own, with the memory that it and its own children take."""

from __future__ import annotations

import multiprocessing
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from gsvnet.benchmark.material import import_extra
from gsvnet.errors import WorkerError

SAMPLE_S = 0.2


class Child:
    """A process that was started with `start(*arguments)`, which gives it the function that each call runs.

    as_labeling: it keeps freed memory as `gsvnet label` does; False: as any Python process. How threads wait is that of
    this process for all: a loop whose threads spin would suffer most from whatever else the machine does.
    Raises WorkerError with the child's traceback for whatever it raised.
    """

    def __init__(self, start: Callable[..., Callable[[], Any]], *arguments: Any, as_labeling: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start, arguments, as_labeling))
        self._process.start()
        theirs.close()
        self._receive()  # ready, or what went wrong

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()

    def __call__(self) -> Any:
        """What the child's function gives for one more call."""
        self._pipe.send("run")
        return self._receive()

    def with_peak_memory(self) -> tuple[Any, int]:
        """One more call, and the most bytes that the process and all below it took meanwhile."""
        with _sampled_memory(self._process.pid or 0) as peak:
            result = self()
        return result, peak[0]

    def _receive(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError as error:
            raise WorkerError(f"a process of the benchmark ended early (exit code {self._process.exitcode})") from error
        if kind == "error":
            raise WorkerError(f"in a process of the benchmark:\n{value}")
        return value


def _serve(
    pipe: Connection, start: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...], as_labeling: bool
) -> None:
    """What the child does: build, then one run per message, until the pipe is closed."""
    if as_labeling:
        from gsvnet.process import keep_freed_memory

        keep_freed_memory()
    try:
        run = start(*arguments)
        pipe.send(("ready", None))
        while pipe.recv() == "run":
            pipe.send(("result", run()))
    except EOFError:
        return
    except BaseException:
        pipe.send(("error", traceback.format_exc()))


@contextmanager
def _sampled_memory(pid: int) -> Iterator[list[int]]:
    """[peak bytes] of a process and all below it while the block runs."""
    psutil = import_extra("psutil", "benchmark")
    peak, done = [0], threading.Event()

    def sample() -> None:
        while True:
            peak[0] = max(peak[0], tree_bytes(psutil, pid))
            if done.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def tree_bytes(psutil: Any, pid: int) -> int:
    """Memory of a process and all below it: pages that several share count once (PSS), elsewhere than on Linux RSS."""
    total = 0
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", 0) or memory.rss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total
