"""The waiting shards, video by video: which one next. Plain Python: no Ray, no clock, no I/O."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from gsvnet.labeling.tasks import ShardTask

_Key = tuple[int, int, int]


@dataclass
class _Queue:
    """The waiting shards of one video. order: of the video's first appearance. posted: its latest heap entry's key."""

    order: int
    shards: deque[ShardTask] = field(default_factory=deque)
    num_frames: int = 0
    posted: _Key | None = None


class VideoQueues:
    """Shards that wait. A video that met an outage is set aside until some shards of others finished: 2, 4, .. 64."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self._queues: dict[str, _Queue] = {}
        self._next: list[tuple[_Key, str]] = []  # heap of (key, video id); entries may be stale
        self._num_videos = 0
        self._num_finished = 0
        self._outages: dict[str, int] = {}  # by video, since a shard of it finished
        self._aside: dict[str, int] = {}  # video -> the number of finished shards at which it is back
        self._back: list[tuple[int, str]] = []  # heap of the same; entries may be stale
        self._random: random.Random | None = None

    def put(self, task: ShardTask, *, first: bool) -> None:
        """A shard waits, first or last of its video."""
        queue = self._queues.get(task.video.id)
        if queue is None:
            queue = self._queues[task.video.id] = _Queue(order=self._num_videos)
            self._num_videos += 1
        queue.shards.appendleft(task) if first else queue.shards.append(task)
        queue.num_frames += task.shard.num_frames
        self.num_waiting += 1
        if queue.posted is None or self._key(queue, task.video.id) < queue.posted:
            self._post(queue, task.video.id)

    def pop(self, open_video: str | None = None) -> ShardTask | None:
        """The next shard of `open_video` if one waits, else of the video with most waiting frames; None: none waits."""
        queue = None
        if open_video is not None and open_video not in self._aside:
            queue = self._queues.get(open_video)
        if queue is None:
            queue = self._longest_queue() if self._random is None else self._random_queue(self._random)
        if queue is None:
            return None
        if self._random is not None:
            queue.shards.rotate(-self._random.randrange(len(queue.shards)))
        task = queue.shards.popleft()
        queue.num_frames -= task.shard.num_frames
        if not queue.shards:
            del self._queues[task.video.id]
        self.num_waiting -= 1
        return task

    def scatter(self, seed: int) -> None:
        """From now on shards are taken at random places."""
        if self._random is None:
            self._random = random.Random(seed)

    def set_aside(self, video_id: str) -> None:
        """A shard of the video met an outage."""
        count = self._outages[video_id] = self._outages.get(video_id, 0) + 1
        back = self._aside[video_id] = self._num_finished + 2 ** min(count, 6)
        heapq.heappush(self._back, (back, video_id))

    def note_finished(self, video_id: str) -> None:
        """A shard of the video finished: whatever was out of reach for it is back."""
        self._num_finished += 1
        self._outages.pop(video_id, None)
        self._bring_back(video_id)
        while self._back and self._back[0][0] <= self._num_finished:
            back, other = heapq.heappop(self._back)
            if self._aside.get(other) == back:
                self._bring_back(other)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._queues.clear()
        self._next.clear()
        self.num_waiting = 0

    def _bring_back(self, video_id: str) -> None:
        if self._aside.pop(video_id, None) is not None and (queue := self._queues.get(video_id)):
            self._post(queue, video_id)

    def _key(self, queue: _Queue, video_id: str) -> _Key:
        """The smallest is taken first."""
        return self._aside.get(video_id, 0), -queue.num_frames, queue.order

    def _post(self, queue: _Queue, video_id: str) -> None:
        queue.posted = self._key(queue, video_id)
        heapq.heappush(self._next, (queue.posted, video_id))
        if len(self._next) > 2 * len(self._queues) + 100:  # most are stale: a driver would keep one for every shard
            self._next = [(queue.posted, name) for name, queue in self._queues.items() if queue.posted is not None]
            heapq.heapify(self._next)

    def _longest_queue(self) -> _Queue | None:
        while self._next:
            posted, video_id = self._next[0]
            queue = self._queues.get(video_id)
            is_latest = queue is not None and posted == queue.posted
            if queue is not None and is_latest and posted == self._key(queue, video_id):
                return queue
            heapq.heappop(self._next)  # an older key: post the present one once
            if queue is not None and is_latest:
                self._post(queue, video_id)
        return None

    def _random_queue(self, source: random.Random) -> _Queue | None:
        if not self._queues:
            return None
        return next(islice(self._queues.values(), source.randrange(len(self._queues)), None))
