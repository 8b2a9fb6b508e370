"""What a training shows while it goes on: a bar or lines, and in its folder curves.png and validation.png."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from rich.console import Console

from gsvnet.training.curves import draw_curves, load_matplotlib, read_log
from gsvnet.training.progress import TrainingProgress, Unit

DRAW_EVERY_S = 10.0
_MOST_SHARE = 0.05  # of the time that a training takes, for drawing one picture again and again

Network = TypeVar("Network")


class TrainingRecord(Generic[Network]):
    """Shows each record that is logged and each network that is saved. A context manager.

    unit, total, every: as in `TrainingProgress`. draw: writes the validation picture of a network to a path under a
    title, which begins with `title`. Both pictures are drawn at most every `DRAW_EVERY_S` seconds and at the end.
    Raises MissingExtra without matplotlib, before anything is trained.
    """

    def __init__(
        self,
        folder: Path,
        *,
        unit: Unit,
        total: int,
        title: str,
        console: Console,
        draw: Callable[[Network, Path, str], None],
        every: int = 1,
    ) -> None:
        load_matplotlib("figure")
        self.folder, self.unit, self.total, self.title, self.draw = folder, unit, total, title, draw
        self._drawn = True
        self.progress = TrainingProgress(unit=unit, total=total, console=console, every=every)
        self._curves, self._pictures = _Pace(), _Pace()

    def __enter__(self) -> Self:
        self.progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.__exit__(kind, error, trace)
        if error is None and not self._drawn:
            self._draw_curves()

    def add(self, record: dict[str, Any]) -> None:
        """Show a record that was just logged."""
        self.progress.add(record)
        self._drawn = False
        if self._curves.is_due():
            self._draw_curves()

    def look(self, done: int, network: Network) -> None:
        """Show what a network that was just saved, after `done` units and in eval mode, makes of the samples."""
        if self._pictures.is_due() or done >= self.total:
            title = f"{self.title}, {self.unit} {done} of {self.total}"
            with self._pictures:
                self.draw(network, self.folder / "validation.png", title)

    def _draw_curves(self) -> None:
        """From the log and not from what was added, so that the curves of a resumed training go on."""
        with self._curves:
            draw_curves(read_log(self.folder), self.folder / "curves.png", unit=self.unit, title=self.folder.stem)
        self._drawn = True


class _Pace:
    """When to draw again; drawing is timed by `with`."""

    def __init__(self) -> None:
        self._started = self._next = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._next = now + max(DRAW_EVERY_S, (now - self._started) / _MOST_SHARE)

    def is_due(self) -> bool:
        return time.monotonic() >= self._next
