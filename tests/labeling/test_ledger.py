from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from rich.console import Console

from gsvnet.chunks import Shard, Video
from gsvnet.labeling import ledger as ledger_module
from gsvnet.labeling.ledger import Ledger
from gsvnet.labeling.plan import VideoPlan
from gsvnet.labeling.planning import Planned
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure
from gsvnet.video.motion_source import MotionChoice


def plan(name, num_shards, *, problems=()):
    video = Video(
        id=name,
        uri=name,
        identity="1",
        height=4,
        width=4,
        rotation=0,
        time_base=Fraction(1, 10),
        num_frames=10 * num_shards,
    )
    shards = [
        Shard(video_id=name, index=i, first_frame=10 * i, num_frames=10, start_pts=10 * i, end_pts=10 * i + 10)
        for i in range(num_shards)
    ]
    plan = VideoPlan(video=video, shards=tuple(shards), numbers_from="index", problems=problems)
    return Planned(uri=f"s3://key:hush@bucket/{name}.mp4", plan=plan)


@pytest.fixture
def progress():
    with JobProgress(console=Console(quiet=True)) as progress:
        yield progress


def read(ledger, planned, progress, failures=None):
    tasks = ledger.pending(planned, progress=progress, on_failure=[].append if failures is None else failures.append)
    return [task and (task.video.id, task.shard.index) for task in tasks]


def test_pending_are_the_shards_that_are_neither_labeled_nor_given_up(progress):
    ledger = Ledger(committed={("a", "000001")}, given_up={("a", "000003"), ("b", "000000")})
    assert read(ledger, [plan("a", 4), plan("b", 1)], progress) == [("a", 0), ("a", 2)]
    assert (progress.total_shards, progress.total_frames) == (2, 20)
    assert (ledger.num_shards, ledger.num_labeled_before) == ({"a": 4, "b": 1}, 1)


def moved(planned, source):
    motion = MotionChoice(source=source, reason="", max_distance=1)
    return replace(planned, plan=replace(planned.plan, motion=motion))


def test_how_many_videos_move_by_what_is_said_once_all_are_planned(make_console):
    progress = JobProgress(console=make_console())
    planned = [moved(plan("a", 1), "codec"), moved(plan("b", 2), "codec"), moved(plan("c", 1), "proxy")]
    tasks = Ledger(committed=set(), given_up=()).pending(planned, progress=progress, on_failure=[].append)
    assert [task.motion.source for task in tasks] == ["codec"] * 3 + ["proxy"]
    said = progress.console.file.getvalue()
    assert said == "note motion: 2 videos by their own codec, 1 video by a proxy encode\n"


def test_of_networks_without_motion_nothing_is_said(make_console):
    progress = JobProgress(console=make_console())
    (task,) = Ledger(committed=set(), given_up=()).pending([plan("a", 1)], progress=progress, on_failure=[].append)
    assert (task.motion, progress.console.file.getvalue()) == (None, "")


def test_where_no_plan_is_made_yet_no_task_is_known_yet(progress):
    ledger = Ledger(committed=set(), given_up=())
    assert read(ledger, [None, plan("a", 1), None, None, plan("b", 1)], progress) == [
        None,
        ("a", 0),
        None,
        None,
        ("b", 0),
    ]


def test_videos_that_cannot_be_used_are_told_and_the_others_go_on(progress):
    failure = ShardFailure(video_id="b", shard_index=None, error="NotAVideo", message="no", attempts=1)
    failures = []
    ledger = Ledger(committed=set(), given_up=())
    assert read(ledger, [Planned(uri="b", failure=failure), plan("a", 1)], progress, failures) == [("a", 0)]
    assert failures == [failure]
    assert ledger.num_shards == {"a": 1}


def test_a_long_row_of_unusable_videos_keeps_nobody_waiting(progress, hold_clock):
    clock = hold_clock(ledger_module)
    failure = ShardFailure(video_id="b", shard_index=None, error="NotAVideo", message="no", attempts=1)
    told = []

    def record(failure):
        told.append(failure)
        clock.now += 0.2

    planned = [*9 * [Planned(uri="b", failure=failure)], plan("a", 1)]
    tasks = Ledger(committed=set(), given_up=()).pending(planned, progress=progress, on_failure=record)
    assert [(next(tasks), len(told)) for _ in range(3)] == [(None, 3), (None, 6), (None, 9)]
    assert next(tasks).video.id == "a"


def test_problems_are_noted_without_credentials_where_there_is_something_to_label(capsys):
    with JobProgress(console=Console(width=200)) as progress:
        ledger = Ledger(committed={("done", "000000")}, given_up=())
        read(ledger, [plan("new", 1, problems=("cut short?",)), plan("done", 1, problems=("odd",))], progress)
    printed = capsys.readouterr().out
    assert "s3://bucket/new.mp4: cut short?" in printed
    assert "hush" not in printed
    assert "odd" not in printed


def test_tasks_are_made_only_as_they_are_taken(progress):
    taken = []

    def planned():
        for name in "abc":
            taken.append(name)
            yield plan(name, 2)

    tasks = Ledger(committed=set(), given_up=()).pending(planned(), progress=progress, on_failure=taken.append)
    next(tasks)
    assert taken == ["a"]
