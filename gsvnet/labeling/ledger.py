"""What a run knows of its videos and their shards: labeled, given up, still to do. It counts shards and holds none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from gsvnet.labeling.plan import VideoPlan
from gsvnet.labeling.planning import Planned
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure, ShardTask
from gsvnet.uris import redact_uri
from gsvnet.words import count

ShardKey = tuple[str, str]  # video id, shard name
LONGEST_SILENCE_S = 0.5


class Ledger:
    """Grows as plans come in.

    committed: shards that had their labels when the run began. given_up: what earlier runs recorded and this one leaves
    as it is: (video id, shard name), or None in place of a shard for a whole video.
    """

    def __init__(self, *, committed: Container[ShardKey], given_up: Iterable[tuple[str, str | None]]) -> None:
        self.committed, self.given_up = committed, frozenset(given_up)
        self.num_shards: dict[str, int] = {}  # by video id, of the videos planned so far
        self.num_labeled_before = 0
        self.num_by_motion: Counter[str] = Counter()  # videos by where their motion comes from

    def pending(
        self,
        planned: Iterable[Planned | None],
        *,
        progress: JobProgress,
        on_failure: Callable[[ShardFailure], None],
    ) -> Iterator[ShardTask | None]:
        """The shards to label, one video after the other, and None wherever `planned` has it.

        Videos that cannot be used go to `on_failure`; amounts and problems to `progress`. None also where videos
        without a shard to label take long: whoever reads has other things to do.
        """
        given_s = time.monotonic()
        for item in planned:
            if time.monotonic() - given_s > LONGEST_SILENCE_S:
                yield None
                given_s = time.monotonic()
            if item is None:
                yield None
                given_s = time.monotonic()
            elif item.plan is None:
                assert item.failure is not None, "a video has a plan or a failure"
                on_failure(item.failure)
            else:
                for task in self._pending_of(item.uri, item.plan, progress):
                    yield task
                    given_s = time.monotonic()
        if self.num_by_motion:
            progress.note(f"motion: {describe_motion(self.num_by_motion)}")
        progress.all_planned()

    def _pending_of(self, uri: str, plan: VideoPlan, progress: JobProgress) -> list[ShardTask]:
        tasks = shard_tasks(uri, plan)
        self.num_shards[plan.video.id] = len(tasks)
        if plan.motion is not None:
            self.num_by_motion[plan.motion.source] += 1
        unlabeled = [task for task in tasks if (task.video.id, task.shard.name) not in self.committed]
        self.num_labeled_before += len(tasks) - len(unlabeled)
        pending = [task for task in unlabeled if (task.video.id, task.shard.name) not in self.given_up]
        progress.plan(num_shards=len(pending), num_frames=sum(task.shard.num_frames for task in pending))
        for problem in plan.problems if pending else ():
            progress.note(f"{redact_uri(uri)}: {problem}")
        return pending


def describe_motion(num_by_motion: Mapping[str, int]) -> str:
    """ "3 videos by their own codec, 1 video by a proxy encode"."""
    ways = {"codec": "by their own codec", "proxy": "by a proxy encode"}
    return ", ".join(f"{count(number, 'video')} {ways[name]}" for name, number in sorted(num_by_motion.items()))


def shard_tasks(uri: str, plan: VideoPlan) -> list[ShardTask]:
    """All shards of a planned video, in order. uri: as the user gave it."""
    return [
        ShardTask(
            video=plan.video,
            shard=shard,
            uri=uri,
            motion=plan.shard_motion,
            reach=plan.reach_of(shard),
            widened=plan.widened_of(shard),
        )
        for shard in plan.shards
    ]
