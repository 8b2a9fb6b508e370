"""`gsvnet verify` and `gsvnet compact`: what they print and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from gsvnet.maintenance.compaction import compact_output
from gsvnet.maintenance.config import CompactConfig, VerifyConfig
from gsvnet.maintenance.text import describe_compaction, show_lines, show_verification
from gsvnet.maintenance.verification import verify_output


def verify(config: VerifyConfig, console: Console) -> int:
    """Check that every frame of every video is there exactly once and whole; the exit code.

    0: it is. 3: what is there is sound, and all that is missing is recorded as given up. 1: anything else.
    """
    with _progress("verifying", console) as progress:
        result = verify_output(config, progress=progress)
    if config.json:
        console.out(json.dumps(result.to_dict(), indent=1), highlight=False)
    else:
        show_verification(result, console)
    return result.exit_code


def compact(config: CompactConfig, console: Console) -> int:
    """Copy an output into one with few large label files; the exit code, 0."""
    with _progress("compacting", console) as progress:
        result = compact_output(config, progress=progress)
    show_lines(describe_compaction(result), console)
    return 0


@contextmanager
def _progress(doing: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
