"""Which shard next, and what becomes of one that went wrong. Plain Python: no Ray, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from gsvnet.labeling.ray.queues import VideoQueues
from gsvnet.labeling.tasks import ShardFailure, ShardTask

MAX_VIDEO_ERRORS = 2  # a video that does not decode seldom does so later
MAX_NODE_LOSSES = 20  # of one shard: nobody is that unlucky with spot nodes
MAX_OUTAGES = 10  # of one shard while others finish: then it is not the storage
Cause = Literal["video", "store", "outage", "space", "other", "killed", "timeout", "node"]


@dataclass(frozen=True, kw_only=True)
class Mishap:
    """One failed attempt. cause: what the worker raised ("video", "store", "other"), or how the worker was lost.

    node_id: where a worker was killed, as long as its node may turn out to have died with it.
    """

    cause: Cause
    error: str
    message: str
    node_id: str = ""


class Schedule:
    """Every shard of the job is waiting, out (with an actor), or settled (finished or failed).

    tasks: shards of one video in a row, in order; read lazily, `lookahead` shards ahead. None among them: no further
    one is known yet, `read` asks again. max_attempts: tries per shard. max_kills: lost workers after which a shard
    counts as poison.
    """

    def __init__(
        self,
        tasks: Iterable[ShardTask | None],
        *,
        max_attempts: int = 3,
        max_kills: int = 2,
        lookahead: int = 20_000,
    ) -> None:
        self.max_attempts, self.max_kills, self.lookahead = max_attempts, max_kills, lookahead
        self.num_out = self.num_finished = 0
        self.is_exhausted = False
        self.is_dry = False
        self._tasks = iter(tasks)
        self._queues = VideoQueues()
        self._mishaps: dict[tuple[str, int], list[Mishap]] = {}
        self._outages: dict[tuple[str, int], tuple[int, int]] = {}  # shard -> (outages, num_finished at the last one)
        self.read()

    @property
    def num_waiting(self) -> int:
        """Shards that wait (of those read so far)."""
        return self._queues.num_waiting

    @property
    def num_unfinished(self) -> int:
        """Shards that are waiting or out (of those read so far)."""
        return self.num_waiting + self.num_out

    @property
    def is_over(self) -> bool:
        """Every shard is settled and no further one will become known."""
        return self.is_exhausted and self.num_unfinished == 0

    def read(self) -> None:
        """Read tasks up to the lookahead, also after the iterable had none to give."""
        self.is_dry = False
        self._fill()

    def take(self, open_video: str | None = None) -> ShardTask | None:
        """The next shard of `open_video` if one waits, else of the video with most waiting frames; None: none waits."""
        task = self._queues.pop(open_video)
        if task is not None:
            self.num_out += 1
            self._fill()
        return task

    def scatter(self, seed: int) -> None:
        """From now on take shards at random places: another run works on the same ones, in the same order."""
        self._queues.scatter(seed)

    def give_back(self, task: ShardTask) -> None:
        """A shard that was out but never started waits again, first of its video, at no charge."""
        self.num_out -= 1
        self._queues.put(task, first=True)

    def postpone(self, task: ShardTask, mishap: Mishap) -> ShardFailure | None:
        """A shard met an outage: it waits again, first of its video, at no charge.

        Where the same shard meets them again and again while others finish, it is charged after all, as `charge` says.
        """
        key = (task.video.id, task.shard.index)
        count, finished_before = self._outages.get(key, (0, -1))
        count += self.num_finished > finished_before
        self._outages[key] = (count, self.num_finished)
        if mishap.cause == "outage":
            self._queues.set_aside(task.video.id)
        if count > MAX_OUTAGES:
            return self.charge(task, mishap)
        self.give_back(task)
        return None

    def finish(self, task: ShardTask) -> None:
        """A shard is labeled."""
        self.num_out -= 1
        self.num_finished += 1
        self._forget(task)
        self._queues.note_finished(task.video.id)

    def charge(self, task: ShardTask, mishap: Mishap) -> ShardFailure | None:
        """An attempt failed: None if the shard waits for another one, else the record of giving it up.

        It waits first of its video where its worker died: that says little about the shard; else last.
        """
        self.num_out -= 1
        mishaps = self._mishaps.setdefault((task.video.id, task.shard.index), [])
        mishaps.append(mishap)
        verdict = self._verdict(mishaps)
        if verdict is None:
            self._queues.put(task, first=mishap.cause in ("killed", "node"))
            return None
        self._forget(task)
        error, message = verdict
        return ShardFailure(
            video_id=task.video.id,
            shard_index=task.shard.index,
            error=error,
            message=message,
            attempts=len(mishaps),
        )

    def is_last_kill(self, task: ShardTask) -> bool:
        """Whether one more lost worker makes a shard poison."""
        kills = [
            m for m in self._mishaps.get((task.video.id, task.shard.index), ()) if m.cause in ("killed", "timeout")
        ]
        return len(kills) + 1 >= self.max_kills

    def pardon(self, dead_node_ids: Collection[str]) -> None:
        """What was charged for workers that were killed on these nodes was the nodes' fault."""
        for mishaps in self._mishaps.values():
            for i, mishap in enumerate(mishaps):
                if mishap.cause == "killed" and mishap.node_id in dead_node_ids:
                    mishaps[i] = replace(mishap, cause="node")

    def num_attempts(self, task: ShardTask) -> int:
        """Failed attempts of a shard so far."""
        return len(self._mishaps.get((task.video.id, task.shard.index), ()))

    def close(self) -> None:
        """Drop all that waits and all that was not read; only what is out remains."""
        self._tasks = iter(())
        self.is_exhausted = True
        self._queues.clear()

    def _forget(self, task: ShardTask) -> None:
        self._mishaps.pop((task.video.id, task.shard.index), None)
        self._outages.pop((task.video.id, task.shard.index), None)

    def _verdict(self, mishaps: list[Mishap]) -> tuple[str, str] | None:
        lost = [m.message for m in mishaps if m.cause in ("killed", "timeout")]
        if len(lost) >= self.max_kills:
            return "WorkerError", f"poison: it took down its worker {len(lost)} times ({'; '.join(lost)})"
        num_video_errors = sum(m.cause == "video" for m in mishaps)
        num_nodes = sum(m.cause == "node" for m in mishaps)
        num_own = len(mishaps) - num_nodes
        if num_video_errors >= MAX_VIDEO_ERRORS or num_own >= self.max_attempts or num_nodes >= MAX_NODE_LOSSES:
            return mishaps[-1].error, mishaps[-1].message
        return None

    def _fill(self) -> None:
        while self.num_waiting < self.lookahead and not self.is_dry and not self.is_exhausted:
            try:
                task = next(self._tasks)
            except StopIteration:
                self.is_exhausted = True
                return
            if task is None:
                self.is_dry = True
            else:
                self._queues.put(task, first=False)
