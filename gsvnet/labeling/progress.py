"""What a person sees while a job runs: a bar on a terminal, a line every 30 s anywhere else."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gsvnet.errors import SourceUnavailable
from gsvnet.labeling.tasks import DriftFigures, ShardFailure, ShardResult

LINE_EVERY_S = 30.0
SPEED_OVER_S = 300.0  # the speed shown is that of the last minutes, so that it follows actors that come and go
SPEED_EVERY_S = 5.0
MAX_FAILURES_KEPT = 1000


class JobProgress:
    """Counts results and shows frames/s, x realtime and time to go. A context manager.

    What there is to do grows by `plan` until `all_planned`. It keeps counts, so its memory does not grow with the job;
    of failures it keeps the first 1,000. num_failed: shards and videos given up; num_shards_failed: of these, shards;
    num_unreachable: of these, videos whose storage did not answer.
    """

    def __init__(self, *, console: Console) -> None:
        self.console = console
        self.total_shards = self.total_frames = 0
        self.num_labeled = self.num_elsewhere = self.num_failed = self.num_shards_failed = self.num_unreachable = 0
        self.failures: list[ShardFailure] = []
        self.frames = self.lost = self.damaged = self.bytes = self.frames_running = 0
        self.num_actors = self.num_up = self.num_resting = 0
        self.media_s = 0.0
        self.drift = DriftFigures()
        self.seconds: dict[str, float] = defaultdict(float)
        self.core_seconds: dict[str, float] = defaultdict(float)
        self._knows_all = False
        self._started = self._last_line = time.monotonic()
        self._points = deque([(self._started, 0)])  # (time, frames), over SPEED_OVER_S
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
        self._task = self._bar.add_task("label", total=None, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._started

    def plan(self, *, num_shards: int, num_frames: int) -> None:
        """Hear of more shards that have to be labeled."""
        self.total_shards += num_shards
        self.total_frames += num_frames
        self._show()

    def all_planned(self) -> None:
        """Hear that no more shards come: the totals are those of the job."""
        self._knows_all = True
        self._show()

    def add(self, result: ShardResult) -> None:
        """Count a labeled shard. One that somebody else had published first leaves the totals: its rows are there."""
        if not result.published:
            self._leave_to_others(result)
            return
        self.num_labeled += 1
        self.frames += result.num_frames
        self.frames_running = max(0, self.frames_running - result.num_frames)
        self.lost += result.num_lost
        self.damaged += result.num_damaged
        self.bytes += result.num_bytes
        self.media_s += result.media_s
        self.drift += result.drift
        for stage, seconds in result.seconds.items():
            self.seconds[stage] += seconds
        for stage, seconds in result.core_seconds.items():
            self.core_seconds[stage] += seconds
        for text in result.notes:
            self.note(f"{result.video_id} shard {result.shard_index}: {text}")
        self._show()

    def _leave_to_others(self, result: ShardResult) -> None:
        self.num_elsewhere += 1
        self.total_shards -= 1
        self.total_frames -= result.num_frames
        self.frames_running = max(0, self.frames_running - result.num_frames)
        self._show()

    def fail(self, failure: ShardFailure) -> None:
        """Report a shard or video that was given up, in one line."""
        self.num_failed += 1
        self.num_shards_failed += failure.shard_index is not None
        self.num_unreachable += failure.shard_index is None and failure.error == SourceUnavailable.__name__
        if len(self.failures) < MAX_FAILURES_KEPT:
            self.failures.append(failure)
        where = "" if failure.shard_index is None else f"{failure.video_id} shard {failure.shard_index}: "
        self._say("red", "failed", where + failure.message)
        self._show()

    def note(self, text: str) -> None:
        """Say something in one line that is no failure yet."""
        self._say("yellow", "note", text)

    def tick(self, *, num_actors: int, num_resting: int = 0, frames_running: int = 0) -> None:
        """Called about once a second: keeps bar and lines moving while no shard ends.

        num_actors: up now. num_resting: of these, those that wait for storage or disk space. frames_running: labeled
        frames of shards that are not finished; they count as progress, not as result.
        """
        self.num_resting = num_resting
        self.num_up, self.num_actors = num_actors, max(self.num_actors, num_actors)
        self.frames_running = frames_running
        self._show()

    def rate(self) -> str:
        """Frames/s and x realtime over the last minutes, and the time to go at this speed, as text."""
        now, frames = time.monotonic(), self.frames + self.frames_running
        if not frames:
            return "starting"
        then, frames_then = self._points[0]
        frames_per_s = max(0, frames - frames_then) / max(now - then, 1e-9)
        if not frames_per_s:
            return "no frame in the last minutes"
        realtime = f"{frames_per_s * self.media_s / self.frames:.2f}x realtime · " if self.frames else ""
        return f"{frames_per_s:.1f} frames/s · {realtime}{format_clock(self._frames_to_go() / frames_per_s)} to go"

    def line(self) -> str:
        """Where the job is, as one line of a log."""
        shards = f"{self.num_labeled + self.num_shards_failed:,}/{self.total_shards:,} shards"
        parts = [shards if self._knows_all else f"{shards} known so far"]
        parts.append(f"{self.frames + self.frames_running:,}/{self.total_frames:,} frames")
        parts += [f"{_video_time(self.media_s)} of video"] if self.media_s else []
        parts.append(self.rate())
        parts += [f"{self.num_failed:,} failed"] if self.num_failed else []
        parts.append(f"{self.num_up:,} {'actor' if self.num_up == 1 else 'actors'} up")
        parts += [f"{self.num_resting:,} resting"] if self.num_resting else []
        return " · ".join(parts)

    def _frames_to_go(self) -> float:
        """Frames still to be labeled; a shard that was given up counts as one of mean length."""
        given_up = self.num_shards_failed * self.total_frames / max(1, self.total_shards)
        return max(0.0, self.total_frames - self.frames - self.frames_running - given_up)

    def _say(self, colour: str, word: str, text: str) -> None:
        line = " ".join(text.split())
        self.console.print(f"[{colour}]{word}[/{colour}] {escape(line)}", highlight=False, soft_wrap=True)

    def _show(self) -> None:
        now, frames = time.monotonic(), self.frames + self.frames_running
        if now - self._points[-1][0] >= SPEED_EVERY_S:
            self._points.append((now, frames))
            while len(self._points) > 2 and self._points[1][0] <= now - SPEED_OVER_S:
                self._points.popleft()
        if self.console.is_terminal:
            self._bar.update(self._task, completed=frames, total=self.total_frames or None, rate=self.rate())
        elif now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            self.console.print(self.line(), highlight=False, soft_wrap=True)


def _video_time(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else format_clock(seconds)


def format_clock(seconds: float) -> str:
    """A duration as text: minutes:seconds, or hours:minutes:seconds."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
