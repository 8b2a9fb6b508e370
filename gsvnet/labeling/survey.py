"""What a heap of planned videos comes to, counted one by one: nothing is kept of a video but a few examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field

from gsvnet.labeling.plan import VideoPlan
from gsvnet.labeling.planning import Planned, share_of
from gsvnet.labeling.tasks import ShardFailure

NUM_EXAMPLES = 3

Size = tuple[int, int]


@dataclass(kw_only=True)
class SizeCount:
    """Videos of one (height, width). frames, shards: still to label. sample: the plan and URI of the best to measure
    on: its numbers come from headers where any do, and it is the longest.
    """

    videos: int = 0
    frames: int = 0
    shards: int = 0
    sample: VideoPlan | None = None
    sample_uri: str = field(default="", repr=False)

    def offer_sample(self, plan: VideoPlan, uri: str) -> None:
        """Take this video as the sample if it is the better one."""
        if self.sample is None or _fitness(plan) > _fitness(self.sample):
            self.sample, self.sample_uri = plan, uri


@dataclass(kw_only=True)
class Group:
    """Videos with the same trouble. text: of the first; examples: the first few, for people."""

    text: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(example)


@dataclass(kw_only=True)
class ShareCount:
    """What falls to one job of an array."""

    videos: int = 0
    frames: int = 0


@dataclass(kw_only=True)
class Survey:
    """Totals over videos that can be used; `failed` are the others, by error class.

    num_scanned, scanned_bytes: videos whose numbers took a pass over the whole file. num_shards_done, num_frames_done:
    with labels already. problems: by their words without the numbers. motion: videos by where their motion comes from
    ("codec", "proxy"), for networks that read it.
    """

    array_count: int | None = None
    num_videos: int = 0
    media_s: float = 0.0
    num_frames: int = 0
    num_frames_done: int = 0
    num_shards: int = 0
    num_shards_done: int = 0
    num_bytes: int = 0
    num_scanned: int = 0
    scanned_bytes: int = 0
    num_with_problems: int = 0
    sizes: dict[Size, SizeCount] = field(default_factory=dict)
    problems: dict[str, Group] = field(default_factory=dict)
    failed: dict[str, Group] = field(default_factory=dict)
    motion: Counter[str] = field(default_factory=Counter)
    shares: list[ShareCount] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shares = [ShareCount() for _ in range(self.array_count or 0)]

    @property
    def num_failed(self) -> int:
        """Videos that cannot be used."""
        return sum(group.count for group in self.failed.values())

    @property
    def frames_to_label(self) -> int:
        """Frames without labels."""
        return self.num_frames - self.num_frames_done

    def add(self, planned: Planned, committed: Container[tuple[str, str]] = ()) -> None:
        """Count a video. committed: (video id, shard name) of what has labels already."""
        if planned.failure is not None:
            self._add_failure(planned.failure)
        elif planned.plan is not None:
            self._add_plan(planned.plan, planned.uri, committed)

    def _add_failure(self, failure: ShardFailure) -> None:
        self.failed.setdefault(failure.error, Group(text=failure.error)).add(failure.message)

    def _add_plan(self, plan: VideoPlan, uri: str, committed: Container[tuple[str, str]]) -> None:
        video, shards = plan.video, plan.shards
        frames_done = [shard.num_frames for shard in shards if (video.id, shard.name) in committed]
        self.num_videos += 1
        self.media_s += plan.media_s
        self.num_frames += video.num_frames
        self.num_frames_done += sum(frames_done)
        self.num_shards += len(shards)
        self.num_shards_done += len(frames_done)
        self.num_bytes += plan.num_bytes
        if plan.numbers_from == "scan":
            self.num_scanned += 1
            self.scanned_bytes += plan.num_bytes
        if plan.motion is not None:
            self.motion[plan.motion.source] += 1
        size = self.sizes.setdefault((video.height, video.width), SizeCount())
        size.videos += 1
        size.frames += video.num_frames - sum(frames_done)
        size.shards += len(shards) - len(frames_done)
        size.offer_sample(plan, uri)
        self._add_problems(plan)
        if self.shares:
            share = self.shares[share_of(video.id, len(self.shares))]
            share.videos += 1
            share.frames += video.num_frames

    def _add_problems(self, plan: VideoPlan) -> None:
        self.num_with_problems += bool(plan.problems)
        for text in plan.problems:
            words = re.sub(r"\d[\d.,]*", "N", text)
            self.problems.setdefault(words, Group(text=text)).add(plan.video.uri)


def _fitness(plan: VideoPlan) -> tuple[bool, int]:
    return plan.numbers_from == "index", plan.video.num_frames
