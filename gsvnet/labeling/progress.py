"""What a person sees while a job runs: a bar on a terminal, a line every 30 s anywhere else."""

from __future__ import annotations

import time
from collections import defaultdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gsvnet.labeling.tasks import ShardFailure, ShardResult

LINE_EVERY_S = 30.0


class JobProgress:
    """Counts results and shows frames/s, x realtime and time to go. A context manager.

    total_frames: frames that this run has to label. media_s: their length in seconds of video.
    """

    def __init__(self, *, total_frames: int, total_shards: int, console: Console) -> None:
        self.total_frames, self.total_shards, self.console = total_frames, total_shards, console
        self.results: list[ShardResult] = []
        self.failures: list[ShardFailure] = []
        self.frames = self.lost = self.bytes = self.num_actors = 0
        self.media_s = 0.0
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]labeling"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("label", total=max(1, total_frames), rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since labeling began."""
        return time.monotonic() - self._started

    def add(self, result: ShardResult) -> None:
        """Count a labeled shard; one that another attempt had published counts as well, its rows are there."""
        self.results.append(result)
        self.frames += result.num_frames
        self.lost += result.num_lost
        self.bytes += result.num_bytes
        self.media_s += result.media_s
        for stage, seconds in result.seconds.items():
            self.seconds[stage] += seconds
        self._show()

    def fail(self, failure: ShardFailure) -> None:
        """Report a shard or video that was given up, in one line."""
        self.failures.append(failure)
        where = failure.video_id + ("" if failure.shard_index is None else f" shard {failure.shard_index}")
        self.console.print(f"[red]failed[/red] {where}: {failure.message}", highlight=False, soft_wrap=True)
        self._show()

    def note(self, text: str) -> None:
        """Say something in one line that is no failure yet."""
        self.console.print(f"[yellow]note[/yellow] {text.splitlines()[0]}", highlight=False, soft_wrap=True)

    def tick(self, *, num_actors: int) -> None:
        """Called about once a second: keeps bar and lines moving while no shard ends."""
        self.num_actors = max(self.num_actors, num_actors)
        self._show()

    def rate(self) -> str:
        """Frames/s, x realtime, time to go, as text."""
        elapsed = max(self.elapsed_s, 1e-9)
        left_s = (self.total_frames - self.frames) * elapsed / self.frames if self.frames else None
        to_go = "?" if left_s is None else _clock(left_s)
        return f"{self.frames / elapsed:.1f} frames/s · {self.media_s / elapsed:.2f}x realtime · {to_go} to go"

    def _show(self) -> None:
        self._bar.update(self._task, completed=self.frames, rate=self.rate())
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            done = len(self.results) + len(self.failures)
            self.console.print(
                f"{done}/{self.total_shards} shards · {self.frames}/{self.total_frames} frames · {self.rate()}",
                highlight=False,
            )


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
