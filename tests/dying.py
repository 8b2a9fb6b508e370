"""For a process of a test: what is left when it is killed at one line after the other."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import ModuleType

MOST_STEPS = 999


def die_at_every_line(modules: Iterable[ModuleType], act: Callable[[int], object], *, every: int = 1) -> int:
    """Run `act(step)` in a fork for each step from 1, killed at the step-th line that the modules run, in any thread.

    every: leave out steps between. The first step that was not killed any more.
    """
    files = {module.__file__ for module in modules}
    for step in range(1, MOST_STEPS + 1, every):
        child = os.fork()
        if child == 0:
            _die_at(step, files)
            act(step)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
    return step


def _die_at(step: int, files: set[str | None]) -> None:
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines += 1
            if lines == step:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
