from __future__ import annotations

import itertools
import time

import pytest

from gsvnet.labeling.ray.schedule import Mishap, Schedule

RAISED = Mishap(cause="other", error="ValueError", message="no")
KILLED = Mishap(cause="killed", error="WorkerError", message="signal 9")
TIMEOUT = Mishap(cause="timeout", error="WorkerError", message="too long")
NODE = Mishap(cause="node", error="WorkerError", message="node left")
VIDEO = Mishap(cause="video", error="DecodeError", message="broken")
OUTAGE = Mishap(cause="outage", error="StoreUnavailable", message="503")
SPACE = Mishap(cause="space", error="NoSpace", message="full")


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
        ([NODE] * 20, "WorkerError"),
        ([KILLED, NODE, RAISED, NODE, RAISED], "ValueError"),
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


def test_none_among_the_tasks_means_that_further_ones_become_known_later(make_tasks):
    a, b = make_tasks(2)
    schedule = Schedule(iter([None, a, None, b]))
    assert (schedule.take(), schedule.is_dry, schedule.is_over) == (None, True, False)
    schedule.read()
    assert (schedule.take(), schedule.take(), schedule.is_over) == (a, None, False)
    schedule.finish(a)
    assert not schedule.is_over
    schedule.read()
    assert (schedule.take(), schedule.is_exhausted) == (b, True)
    schedule.finish(b)
    assert schedule.is_over


def test_a_shard_whose_worker_was_killed_is_next(make_tasks):
    schedule = Schedule(make_tasks(3))
    schedule.charge(schedule.take(), KILLED)
    schedule.charge(schedule.take(), NODE)
    assert take_all(schedule) == [("drive", 0), ("drive", 1), ("drive", 2)]


def test_kills_on_a_node_that_turns_out_dead_do_not_make_a_shard_poison(make_tasks):
    schedule = Schedule(make_tasks(1), max_kills=2)
    killed = Mishap(cause="killed", error="WorkerError", message="end of file", node_id="spot")
    assert schedule.charge(schedule.take(), killed) is None
    assert schedule.is_last_kill(make_tasks(1)[0])
    schedule.pardon({"spot", "other"})
    assert not schedule.is_last_kill(make_tasks(1)[0])
    assert schedule.charge(schedule.take(), KILLED) is None
    assert schedule.charge(schedule.take(), KILLED).attempts == 3


def test_an_outage_is_not_charged_however_often_it_comes(make_tasks):
    schedule = Schedule(make_tasks(2), max_attempts=1)
    for _ in range(100):
        assert schedule.postpone(schedule.take(), OUTAGE) is None
    assert name(schedule.take()) == ("drive", 0)


@pytest.mark.parametrize("mishap", [OUTAGE, SPACE])
def test_a_shard_that_meets_outages_while_others_finish_is_charged_after_ten(make_tasks, mishap):
    schedule = Schedule([*make_tasks(1, video_id="bad"), *make_tasks(2000, video_id="good")], max_attempts=2)
    failures, num_tried = [], 0
    videos = itertools.cycle(["bad", "good"])
    while (task := schedule.take(next(videos))) is not None:
        if task.video.id == "good":
            schedule.finish(task)
        else:
            num_tried += 1
            failures.append(schedule.postpone(task, mishap))
    (failure,) = [f for f in failures if f]
    assert (failure.video_id, failure.attempts, num_tried) == ("bad", 2, 12)


def test_a_video_that_meets_outages_waits_until_some_shards_of_others_finished(make_tasks):
    schedule = Schedule([*make_tasks(9, video_id="far"), *make_tasks(4, video_id="near")])
    assert schedule.postpone(schedule.take("far"), OUTAGE) is None
    for index in range(2):
        near = schedule.take("far")
        assert name(near) == ("near", index)
        schedule.finish(near)
    assert name(schedule.take("far")) == ("far", 0)


def test_a_video_is_back_as_soon_as_a_shard_of_it_finishes(make_tasks):
    schedule = Schedule([*make_tasks(9, video_id="far"), *make_tasks(4, video_id="near")])
    first = schedule.take("far")
    schedule.postpone(schedule.take("far"), OUTAGE)
    schedule.finish(first)
    assert name(schedule.take()) == ("far", 1)


@pytest.mark.parametrize("is_scattered", [False, True])
def test_memory_grows_with_the_shards_that_wait_not_with_those_that_were(make_tasks, is_scattered):
    videos = (make_tasks(10, video_id=f"v{number}") for number in range(300))
    schedule = Schedule(itertools.chain.from_iterable(videos), lookahead=50)
    if is_scattered:
        schedule.scatter(1)
    taken, most = [], 0
    while (task := schedule.take(taken[-1][0] if taken else None)) is not None:
        taken.append(name(task))
        schedule.finish(task)
        most = max(most, len(schedule._queues._next))
    assert sorted(taken) == sorted((f"v{number}", index) for number in range(300) for index in range(10))
    assert most <= 2 * 50 + 101


def test_a_run_that_meets_another_takes_shards_at_random_places(make_tasks):
    def order(seed):
        schedule = Schedule([*make_tasks(20, video_id="a"), *make_tasks(20, video_id="b")])
        schedule.scatter(seed)
        return take_all(schedule)

    one, same, other = order(1), order(1), order(2)
    assert sorted(one) == sorted(other) == [(v, i) for v in "ab" for i in range(20)]
    assert one == same != other
    assert sum(a == b for a, b in zip(one, other)) < 10


def test_closing_leaves_only_what_is_out(make_tasks):
    schedule = Schedule(make_tasks(5), lookahead=2)
    schedule.take()
    schedule.close()
    assert schedule.take() is None
    assert (schedule.num_waiting, schedule.num_out) == (0, 1)


def test_many_short_videos_cost_microseconds_each(make_tasks):
    tasks = [make_tasks(1, video_id=f"v{i}", frames_per_shard=1 + i % 977)[0] for i in range(20_000)]
    start_s = time.thread_time()
    schedule = Schedule(tasks)
    while (task := schedule.take("v0")) is not None:
        schedule.finish(task)
    assert (time.thread_time() - start_s) / len(tasks) < 200e-6
