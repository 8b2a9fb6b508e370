"""What a person sees while a job runs: a bar on a terminal, a line every 30 s anywhere else."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gsvnet.labeling.tasks import ShardFailure, ShardResult

LINE_EVERY_S = 30.0
Item = TypeVar("Item")


def count_planned(plans: Iterable[Item], *, total: int, console: Console) -> Iterator[Item]:
    """The same items; while they are made a spinner turns on a terminal, elsewhere a line comes every 30 s."""
    last_line = time.monotonic()
    with console.status(f"reading what {total} videos hold") as status:
        for number, plan in enumerate(plans, start=1):
            text = f"{number}/{total} videos planned"
            status.update(text)
            if not console.is_terminal and time.monotonic() - last_line >= LINE_EVERY_S:
                last_line = time.monotonic()
                console.print(text, highlight=False)
            yield plan


class JobProgress:
    """Counts results and shows frames/s, x realtime and time to go. A context manager.

    total_frames: frames that this run has to label.
    """

    def __init__(self, *, total_frames: int, total_shards: int, console: Console) -> None:
        self.total_frames, self.total_shards, self.console = total_frames, total_shards, console
        self.results: list[ShardResult] = []
        self.failures: list[ShardFailure] = []
        self.frames = self.lost = self.bytes = self.num_actors = self.frames_running = 0
        self.media_s = 0.0
        self.seconds: dict[str, float] = defaultdict(float)
        self.core_seconds: dict[str, float] = defaultdict(float)
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
        self.frames_running = max(0, self.frames_running - result.num_frames)
        self.lost += result.num_lost
        self.bytes += result.num_bytes
        self.media_s += result.media_s
        for stage, seconds in result.seconds.items():
            self.seconds[stage] += seconds
        for stage, seconds in result.core_seconds.items():
            self.core_seconds[stage] += seconds
        for text in result.notes:
            self.note(f"{result.video_id} shard {result.shard_index}: {text}")
        self._show()

    def fail(self, failure: ShardFailure) -> None:
        """Report a shard or video that was given up, in one line."""
        self.failures.append(failure)
        where = "" if failure.shard_index is None else f"{failure.video_id} shard {failure.shard_index}: "
        self._say("red", "failed", where + failure.message)
        self._show()

    def note(self, text: str) -> None:
        """Say something in one line that is no failure yet."""
        self._say("yellow", "note", text)

    def tick(self, *, num_actors: int, frames_running: int = 0) -> None:
        """Called about once a second: keeps bar and lines moving while no shard ends.

        frames_running: labeled frames of shards that are not finished; they count as progress, not as result.
        """
        self.num_actors = max(self.num_actors, num_actors)
        self.frames_running = frames_running
        self._show()

    def rate(self) -> str:
        """Frames/s, x realtime, time to go, as text."""
        elapsed, frames = max(self.elapsed_s, 1e-9), self.frames + self.frames_running
        if not frames:
            return "starting"
        to_go = format_clock(max(0, self.total_frames - frames) * elapsed / frames)
        frames_per_s = frames / elapsed
        realtime = f"{frames_per_s * self.media_s / self.frames:.2f}x realtime · " if self.frames else ""
        return f"{frames_per_s:.1f} frames/s · {realtime}{to_go} to go"

    def _say(self, colour: str, word: str, text: str) -> None:
        line = " ".join(text.split())
        self.console.print(f"[{colour}]{word}[/{colour}] {escape(line)}", highlight=False, soft_wrap=True)

    def _show(self) -> None:
        self._bar.update(self._task, completed=self.frames + self.frames_running, rate=self.rate())
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            shards = f"{len(self.results) + len(self.failures)}/{self.total_shards} shards"
            frames = f"{self.frames + self.frames_running}/{self.total_frames} frames"
            self.console.print(f"{shards} · {frames} · {self.rate()}", highlight=False, soft_wrap=True)


def format_clock(seconds: float) -> str:
    """A duration as text: minutes:seconds, or hours:minutes:seconds."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
