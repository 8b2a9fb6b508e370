"""Which shard next, and what becomes of one that went wrong. Plain Python: no Ray, no clock, no I/O."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from gsvnet.labeling.tasks import ShardFailure, ShardTask

MAX_VIDEO_ERRORS = 2  # a video that does not decode seldom does so later
Cause = Literal["video", "store", "outage", "space", "other", "killed", "timeout", "node"]


@dataclass(frozen=True, kw_only=True)
class Mishap:
    """One failed attempt. cause: what the worker raised ("video", "store", "other"), or how the worker was lost."""

    cause: Cause
    error: str
    message: str


@dataclass
class _Queue:
    """The waiting shards of one video. order: of the video's first appearance. posted: frames of its heap entry."""

    order: int
    shards: deque[ShardTask] = field(default_factory=deque)
    num_frames: int = 0
    posted: int = 0


class Schedule:
    """Every shard of the job is waiting, out (with an actor), or settled (finished or failed).

    tasks: shards of one video in a row, in order; read lazily, `lookahead` shards ahead. max_attempts: tries per
    shard. max_kills: lost workers after which a shard counts as poison.
    """

    def __init__(
        self, tasks: Iterable[ShardTask], *, max_attempts: int = 3, max_kills: int = 2, lookahead: int = 100_000
    ) -> None:
        self.max_attempts, self.max_kills, self.lookahead = max_attempts, max_kills, lookahead
        self.num_waiting = self.num_out = 0
        self._tasks = iter(tasks)
        self._queues: dict[str, _Queue] = {}
        self._longest: list[tuple[int, int, str]] = []  # heap of (-frames, order, video id); entries may be stale
        self._num_videos = 0
        self._mishaps: dict[tuple[str, int], list[Mishap]] = {}
        self._fill()

    @property
    def num_unfinished(self) -> int:
        """Shards that are waiting or out (of those read so far)."""
        return self.num_waiting + self.num_out

    def take(self, open_video: str | None = None) -> ShardTask | None:
        """The next shard of `open_video` if one waits, else of the video with most waiting frames; None: none waits."""
        queue = self._queues.get(open_video) if open_video is not None else None
        queue = queue or self._longest_queue()
        if queue is None:
            return None
        task = queue.shards.popleft()
        queue.num_frames -= task.shard.num_frames
        if not queue.shards:
            del self._queues[task.video.id]
        self.num_waiting -= 1
        self.num_out += 1
        self._fill()
        return task

    def give_back(self, task: ShardTask) -> None:
        """A shard that was out but never started waits again, first of its video, at no charge."""
        self.num_out -= 1
        self._put(task, first=True)

    def finish(self, task: ShardTask) -> None:
        """A shard is labeled."""
        self.num_out -= 1
        self._mishaps.pop((task.video.id, task.shard.index), None)

    def charge(self, task: ShardTask, mishap: Mishap) -> ShardFailure | None:
        """An attempt failed: None if the shard waits for another one, else the record of giving it up."""
        self.num_out -= 1
        mishaps = self._mishaps.setdefault((task.video.id, task.shard.index), [])
        mishaps.append(mishap)
        verdict = self._verdict(mishaps)
        if verdict is None:
            self._put(task, first=False)
            return None
        del self._mishaps[task.video.id, task.shard.index]
        error, message = verdict
        return ShardFailure(
            video_id=task.video.id,
            shard_index=task.shard.index,
            error=error,
            message=message,
            attempts=len(mishaps),
        )

    def num_attempts(self, task: ShardTask) -> int:
        """Failed attempts of a shard so far."""
        return len(self._mishaps.get((task.video.id, task.shard.index), ()))

    def close(self) -> None:
        """Drop all that waits and all that was not read; only what is out remains."""
        self._tasks = iter(())
        self._queues.clear()
        self._longest.clear()
        self.num_waiting = 0

    def _verdict(self, mishaps: list[Mishap]) -> tuple[str, str] | None:
        lost = [m.message for m in mishaps if m.cause in ("killed", "timeout")]
        if len(lost) >= self.max_kills:
            return "WorkerError", f"poison: it took down its worker {len(lost)} times ({'; '.join(lost)})"
        num_video_errors = sum(m.cause == "video" for m in mishaps)
        if num_video_errors >= MAX_VIDEO_ERRORS or len(mishaps) >= self.max_attempts:
            return mishaps[-1].error, mishaps[-1].message
        return None

    def _fill(self) -> None:
        while self.num_waiting < self.lookahead and (task := next(self._tasks, None)) is not None:
            self._put(task, first=False)

    def _put(self, task: ShardTask, *, first: bool) -> None:
        queue = self._queues.get(task.video.id)
        if queue is None:
            queue = self._queues[task.video.id] = _Queue(order=self._num_videos)
            self._num_videos += 1
        queue.shards.appendleft(task) if first else queue.shards.append(task)
        queue.num_frames += task.shard.num_frames
        self.num_waiting += 1
        if queue.num_frames > queue.posted:
            self._post(queue, task.video.id)

    def _post(self, queue: _Queue, video_id: str) -> None:
        queue.posted = queue.num_frames
        heapq.heappush(self._longest, (-queue.num_frames, queue.order, video_id))

    def _longest_queue(self) -> _Queue | None:
        while self._longest:
            frames, order, video_id = self._longest[0]
            queue = self._queues.get(video_id)
            current = queue is not None and (order, -frames) == (queue.order, queue.posted)
            if queue is not None and current and queue.posted == queue.num_frames:
                return queue
            heapq.heappop(self._longest)  # an older count: post the present one once
            if queue is not None and current:
                self._post(queue, video_id)
        return None
