from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from gsvnet.errors import ConfigError
from gsvnet.labeling.ledger import shard_tasks
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.shard_frames import choose_reach, read_shard
from gsvnet.labeling.tasks import Reach
from gsvnet.models.segmenter import FrameNeeds

ALONE = FrameNeeds(keyframe_size=(12, 16))
AROUND = replace(ALONE, before=3, after=2)


def tasks_of(drive, **rule):
    usual = {"interval": 5, "shard_seconds": 60.0, "shard_frames": 15}
    return shard_tasks(str(drive), plan_video(str(drive), rule=PlanRule(**usual | rule)))


def read(task, needs):
    frames = read_shard(task, needs=needs, interval=5, decoder="cpu", threads=1, storage_options=None)
    return [frame.index for frame in frames]


def test_frames_around_a_shard_are_read_where_a_network_looks_at_them(drive):
    tasks = tasks_of(drive, before=3, after=2)
    cuts = [task.shard.first_frame for task in tasks] + [60]
    assert len(tasks) > 2
    assert [read(task, AROUND) for task in tasks] == [
        list(range(max(0, first - 3), min(60, stop + 2))) for first, stop in pairwise(cuts)
    ]


def test_the_next_keyframe_is_read_too_where_nothing_else_is_behind_the_shard(drive):
    task = tasks_of(drive, before=3)[1]
    first, stop = task.shard.first_frame - 3, task.shard.first_frame + task.shard.num_frames
    assert read(task, replace(ALONE, before=3)) == list(range(first, stop))
    assert read(task, replace(ALONE, before=3, next_keyframe=True)) == list(range(first, stop + 1))


def test_a_network_that_looks_at_nothing_around_reads_the_shard_whatever_was_planned(drive):
    task = tasks_of(drive, before=3, after=2)[1]
    first, start_pts, end_pts = task.shard.first_frame, task.shard.start_pts, task.shard.end_pts
    assert task.reach.first_frame == first - 3
    assert choose_reach(task, ALONE) == Reach(first_frame=first, start_pts=start_pts, end_pts=end_pts)


@pytest.mark.parametrize(
    ("planned", "number"),
    [({}, 0), ({}, 1), ({}, -1), ({"before": 3}, 0), ({"before": 2, "after": 2}, 1), ({"after": 2}, -1)],
)
def test_a_plan_of_a_network_that_looks_less_far_is_refused(drive, planned, number):
    task = tasks_of(drive, **planned)[number]
    with pytest.raises(ConfigError, match=r"fewer frames around it than this one \(3 before, 2 after\)"):
        read(task, AROUND)


def test_a_whole_video_needs_no_reach(drive):
    [task] = tasks_of(drive, shard_frames=60)
    assert task.reach is None
    assert read(task, AROUND) == list(range(60))
