"""What a run knows of its videos and their shards: labeled, given up, still to do. It counts shards and holds none."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator

from gsvnet.chunks import shard_name
from gsvnet.labeling.plan import VideoPlan
from gsvnet.labeling.planning import Planned
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure, ShardTask
from gsvnet.uris import redact_uri

ShardKey = tuple[str, str]  # video id, shard name


class Ledger:
    """Grows as plans come in.

    committed: shards that had their labels when the run began. given_up: what earlier runs recorded and this one leaves
    as it is: (video id, shard name), or None in place of a shard for a whole video.
    """

    def __init__(self, *, committed: Container[ShardKey], given_up: Iterable[tuple[str, str | None]]) -> None:
        self.committed, self.given_up = committed, frozenset(given_up)
        self.num_shards: dict[str, int] = {}  # by video id, of the videos planned so far
        self.num_labeled_before = 0

    def pending(
        self,
        planned: Iterable[Planned | None],
        *,
        progress: JobProgress,
        on_failure: Callable[[ShardFailure], None],
    ) -> Iterator[ShardTask | None]:
        """The shards to label, one video after the other, and None wherever `planned` has it.

        Videos that cannot be used go to `on_failure`; amounts and problems to `progress`.
        """
        for item in planned:
            if item is None:
                yield None
            elif item.plan is None:
                assert item.failure is not None, "a video has a plan or a failure"
                on_failure(item.failure)
            else:
                yield from self._pending_of(item.uri, item.plan, progress)
        progress.all_planned()

    def missing(self, video_id: str, committed: Container[ShardKey]) -> bool:
        """Whether a planned video lacks labels in `committed`, shards that were given up included."""
        names = map(shard_name, range(self.num_shards[video_id]))
        return any((video_id, name) not in committed for name in names)

    def _pending_of(self, uri: str, plan: VideoPlan, progress: JobProgress) -> list[ShardTask]:
        tasks = shard_tasks(uri, plan)
        self.num_shards[plan.video.id] = len(tasks)
        unlabeled = [task for task in tasks if (task.video.id, task.shard.name) not in self.committed]
        self.num_labeled_before += len(tasks) - len(unlabeled)
        pending = [task for task in unlabeled if (task.video.id, task.shard.name) not in self.given_up]
        progress.plan(num_shards=len(pending), num_frames=sum(task.shard.num_frames for task in pending))
        for problem in plan.problems if pending else ():
            progress.note(f"{redact_uri(uri)}: {problem}")
        return pending


def shard_tasks(uri: str, plan: VideoPlan) -> list[ShardTask]:
    """All shards of a planned video, in order. uri: as the user gave it."""
    return [ShardTask(video=plan.video, shard=shard, uri=uri) for shard in plan.shards]
