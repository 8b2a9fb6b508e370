from __future__ import annotations

import time

import pytest

from gsvnet.labeling.ray.schedule import Mishap, Schedule

RAISED = Mishap(cause="other", error="ValueError", message="no")
KILLED = Mishap(cause="killed", error="WorkerError", message="signal 9")
TIMEOUT = Mishap(cause="timeout", error="WorkerError", message="too long")
NODE = Mishap(cause="node", error="WorkerError", message="node left")
VIDEO = Mishap(cause="video", error="DecodeError", message="broken")


def name(task):
    return task.video.id, task.shard.index


def take_all(schedule, open_video=None):
    taken = []
    while (task := schedule.take(open_video)) is not None:
        taken.append(name(task))
    return taken


def test_an_actor_stays_with_its_video_then_takes_the_longest_remaining(make_tasks):
    schedule = Schedule([*make_tasks(1, video_id="a"), *make_tasks(3, video_id="b"), *make_tasks(2, video_id="c")])
    assert name(schedule.take("a")) == ("a", 0)
    assert name(schedule.take("a")) == ("b", 0)  # a is exhausted, b has most frames
    assert name(schedule.take("c")) == ("c", 0)
    assert name(schedule.take(None)) == ("b", 1)  # b: 20 frames, c: 10
    assert take_all(schedule) == [("b", 2), ("c", 1)]  # level: the video that came first


def test_length_is_counted_in_frames(make_tasks):
    schedule = Schedule([*make_tasks(3, video_id="many"), *make_tasks(1, video_id="big", frames_per_shard=31)])
    assert name(schedule.take()) == ("big", 0)


def test_a_shard_given_back_is_next_and_not_charged(make_tasks):
    schedule = Schedule(make_tasks(3), max_attempts=1)
    first = schedule.take()
    schedule.give_back(first)
    assert name(schedule.take("drive")) == ("drive", 0)
    assert schedule.num_attempts(first) == 0


def test_a_charged_shard_waits_behind_the_others_of_its_video(make_tasks):
    schedule = Schedule(make_tasks(3))
    task = schedule.take()
    assert schedule.charge(task, RAISED) is None
    assert schedule.num_attempts(task) == 1
    assert take_all(schedule) == [("drive", 1), ("drive", 2), ("drive", 0)]


@pytest.mark.parametrize(
    ("mishaps", "error"),
    [
        ([RAISED, RAISED, RAISED], "ValueError"),
        ([VIDEO, VIDEO], "DecodeError"),
        ([KILLED, RAISED, KILLED], "WorkerError"),
        ([KILLED, TIMEOUT], "WorkerError"),
        ([NODE, NODE, NODE], "WorkerError"),
        ([KILLED, NODE, RAISED], "ValueError"),
    ],
)
def test_a_shard_is_given_up_after_exactly_these_mishaps(make_tasks, mishaps, error):
    schedule = Schedule(make_tasks(1), max_attempts=3, max_kills=2)
    for mishap in mishaps[:-1]:
        assert schedule.charge(schedule.take(), mishap) is None
    failure = schedule.charge(schedule.take(), mishaps[-1])
    assert (failure.error, failure.attempts, failure.shard_index) == (error, len(mishaps), 0)
    assert schedule.num_unfinished == 0


def test_the_record_of_a_poison_shard_says_how_it_killed(make_tasks):
    schedule = Schedule(make_tasks(1))
    schedule.charge(schedule.take(), KILLED)
    failure = schedule.charge(schedule.take(), TIMEOUT)
    assert failure.message == "poison: it took down its worker 2 times (signal 9; too long)"


def test_waiting_out_and_settled_add_up(make_tasks):
    schedule = Schedule(make_tasks(4))
    assert (schedule.num_waiting, schedule.num_out) == (4, 0)
    a, b = schedule.take(), schedule.take()
    assert (schedule.num_waiting, schedule.num_out) == (2, 2)
    schedule.finish(a)
    schedule.charge(b, RAISED)
    assert (schedule.num_waiting, schedule.num_out, schedule.num_unfinished) == (3, 0, 3)


def test_tasks_are_read_no_further_than_the_lookahead(make_tasks):
    tasks = iter(make_tasks(10))
    schedule = Schedule(tasks, lookahead=3)
    assert schedule.num_waiting == 3
    schedule.take()
    assert [t.shard.index for t in tasks] == [4, 5, 6, 7, 8, 9]


def test_a_lookahead_loses_no_shard(make_tasks):
    schedule = Schedule([*make_tasks(5, video_id="a"), *make_tasks(5, video_id="b")], lookahead=2)
    assert sorted(take_all(schedule)) == [(v, i) for v in "ab" for i in range(5)]


def test_closing_leaves_only_what_is_out(make_tasks):
    schedule = Schedule(make_tasks(5), lookahead=2)
    schedule.take()
    schedule.close()
    assert schedule.take() is None
    assert (schedule.num_waiting, schedule.num_out) == (0, 1)


def test_many_short_videos_cost_microseconds_each(make_tasks):
    tasks = [make_tasks(1, video_id=f"v{i}", frames_per_shard=1 + i % 977)[0] for i in range(20_000)]
    start_s = time.perf_counter()
    schedule = Schedule(tasks)
    while (task := schedule.take("v0")) is not None:
        schedule.finish(task)
    assert (time.perf_counter() - start_s) / len(tasks) < 200e-6
