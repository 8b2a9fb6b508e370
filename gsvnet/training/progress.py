"""What a person sees while a training runs: a bar on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gsvnet.labeling.progress import format_clock

Unit = Literal["epoch", "step"]

LINE_EVERY_S = 10.0


class TrainingProgress:
    """Shows loss, held-out mIoU and time to go. A context manager.

    unit, total: what is counted, and how many of it the whole training has. every: how many lie between two records.
    Lines come for the first and the last record, and in between at most every `LINE_EVERY_S` seconds.
    """

    def __init__(self, *, unit: Unit, total: int, console: Console, every: int = 1) -> None:
        self.unit, self.total, self.console, self.every = unit, total, console, every
        self._started = time.monotonic()
        self._start: int | None = None  # where this run began; a resumed one not at 0
        self._last_line = -LINE_EVERY_S
        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=total, state="starting")

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def add(self, record: dict[str, Any]) -> None:
        """Show a record of log.jsonl: `unit`, loss, and perhaps held_out_miou (0..1)."""
        done, now = record[self.unit], time.monotonic()
        if self._start is None:
            self._start = max(0, done - self.every)
        state = self._describe(record, done - self._start, now - self._started)
        self._bar.update(self._task, completed=done, state=state)
        is_last = done >= self.total
        if is_last or (not self.console.is_terminal and now - self._last_line >= LINE_EVERY_S):
            self._last_line = now
            self.console.print(f"{self.unit} {done}/{self.total}: {state}", highlight=False, soft_wrap=True)

    def _describe(self, record: dict[str, Any], done_here: int, elapsed_s: float) -> str:
        """Loss, held-out mIoU and time to go, as text, after `done_here` in `elapsed_s` of this run."""
        words = [f"loss {record['loss']:.4f}"]
        if record.get("held_out_miou") is not None:
            words.append(f"held-out mIoU {100 * record['held_out_miou']:.1f} %")
        to_go = self.total - record[self.unit]
        clock = format_clock((to_go * elapsed_s / done_here) if to_go else elapsed_s)
        return " · ".join([*words, f"{clock} {'to go' if to_go else 'in this run'}"])
