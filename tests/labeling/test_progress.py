from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from gsvnet.labeling import progress as module
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure, ShardResult


@pytest.fixture
def clock(hold_clock):
    return hold_clock(module)


@pytest.fixture
def log(make_console):
    """Where a program without a terminal prints."""
    return make_console()


@pytest.fixture
def begin(clock):
    """A progress that knows all there is to do."""

    def begin(console, *, num_shards=4, num_frames=200):
        progress = JobProgress(console=console)
        progress.plan(num_shards=num_shards, num_frames=num_frames)
        progress.all_planned()
        return progress

    return begin


def result(num_frames=50):
    return ShardResult(
        video_id="a-1",
        shard_index=0,
        num_frames=num_frames,
        num_lost=0,
        num_keyframes=10,
        num_bytes=100,
        media_s=num_frames / 25,
        seconds={},
        published=True,
    )


def test_shards_that_another_run_labeled_leave_the_totals(log, begin):
    progress = begin(log, num_shards=4, num_frames=200)
    progress.add(result(50))
    progress.add(replace(result(50), published=False, num_bytes=0))
    assert (progress.num_labeled, progress.num_elsewhere, progress.frames) == (1, 1, 50)
    assert (progress.total_shards, progress.total_frames) == (3, 150)


def failure(shard_index):
    return ShardFailure(video_id="a-1", shard_index=shard_index, error="E", message="it broke", attempts=1)


def test_without_a_terminal_a_line_comes_every_half_minute(clock, log, begin):
    with begin(log) as progress:
        for clock.now in (5.0, 10.0, 29.0):
            progress.tick(num_actors=1)
        assert log.file.getvalue() == ""
        progress.add(result())
        clock.now = 50.0
        progress.tick(num_actors=1)
        clock.now = 60.0
        progress.tick(num_actors=1)
        clock.now = 80.0
        progress.tick(num_actors=2, frames_running=30)
    assert log.file.getvalue().splitlines() == [
        "1/4 shards · 50/200 frames · 0:02 of video · 1.0 frames/s · 0.04x realtime · 2:30 to go · 1 actor up",
        "1/4 shards · 80/200 frames · 0:02 of video · 1.0 frames/s · 0.04x realtime · 2:00 to go · 2 actors up",
    ]


def test_nothing_is_promised_before_the_first_frame(clock, log, begin):
    progress = begin(log)
    clock.now = 31.0
    progress.tick(num_actors=0)
    assert log.file.getvalue() == "0/4 shards · 0/200 frames · starting · 0 actors up\n"


def test_totals_grow_and_are_marked_until_all_is_planned(clock, log):
    progress = JobProgress(console=log)
    for _ in range(3):
        progress.plan(num_shards=1000, num_frames=2_000_000)
    assert progress.line() == "0/3,000 shards known so far · 0/6,000,000 frames · starting · 0 actors up"
    progress.all_planned()
    assert progress.line().startswith("0/3,000 shards · ")


def test_hours_to_go_are_shown_as_hours(clock, begin):
    progress = begin(Console(quiet=True), num_frames=10_000)
    clock.now = 50.0
    progress.add(result())
    assert progress.rate().endswith("2:45:50 to go")


def test_the_speed_is_that_of_the_last_five_minutes(clock, begin):
    progress = begin(Console(quiet=True), num_frames=100_000)
    for clock.now in range(10, 1001, 10):  # 5 frames/s
        progress.add(result())
    for clock.now in range(1010, 1311, 10):  # twice as fast
        progress.add(result(100))
    assert progress.frames == 8100
    assert progress.rate() == "10.0 frames/s · 0.40x realtime · 2:33:10 to go"


def test_a_standstill_is_named(clock, begin):
    progress = begin(Console(quiet=True))
    clock.now = 1.0
    progress.add(result())
    for clock.now in range(5, 400, 5):
        progress.tick(num_actors=1)
    assert progress.rate() == "no frame in the last minutes"


def test_video_time_is_shown_in_hours_once_there_are_some(clock, begin):
    progress = begin(Console(quiet=True), num_shards=1000, num_frames=90_000_000)
    clock.now = 1.0
    progress.add(result(45_000_000))
    assert " · 500.0 h of video · " in progress.line()


def test_what_was_given_up_takes_no_more_time(clock, begin):
    progress = begin(Console(quiet=True))
    clock.now = 50.0
    progress.add(result())
    progress.fail(failure(1))
    progress.fail(failure(None))
    assert progress.line() == (
        "2/4 shards · 50/200 frames · 0:02 of video · 1.0 frames/s · 0.04x realtime · 1:40 to go · 2 failed "
        "· 0 actors up"
    )


def test_failures_and_notes_are_one_line_each_whatever_they_hold(make_console):
    log = make_console(width=20)
    progress = JobProgress(console=log)
    broken = ShardFailure(video_id="a-1", shard_index=3, error="E", message="[red]x[/b].mp4:\n  it broke", attempts=1)
    progress.fail(broken)
    progress.fail(ShardFailure(video_id="b-2", shard_index=None, error="E", message="b.mp4: nothing", attempts=1))
    progress.note("a [1] note\nof two lines")
    assert log.file.getvalue().splitlines() == [
        "failed a-1 shard 3: [red]x[/b].mp4: it broke",
        "failed b.mp4: nothing",
        "note a [1] note of two lines",
    ]
    assert progress.failures[0] == broken


def test_memory_does_not_grow_with_the_job(clock, begin):
    progress = begin(Console(quiet=True), num_shards=10**6, num_frames=10**9)
    for clock.now in range(20_000):
        progress.add(result())
        progress.fail(failure(clock.now))
    assert (progress.num_labeled, progress.num_failed, len(progress.failures)) == (20_000, 20_000, 1000)
    assert all(len(value) <= 1000 for value in vars(progress).values() if hasattr(value, "__len__"))


def test_actors_that_wait_for_storage_are_shown():
    progress = JobProgress(console=Console(quiet=True))
    progress.tick(num_actors=3, num_resting=2)
    assert progress.line().endswith("3 actors up · 2 resting")


def test_the_most_actors_that_were_up_are_kept():
    progress = JobProgress(console=Console(quiet=True))
    for num_actors in (1, 3, 2):
        progress.tick(num_actors=num_actors)
    assert (progress.num_actors, progress.num_up) == (3, 2)


def test_a_terminal_gets_a_bar_and_no_lines(clock, make_console, begin):
    screen = make_console(force_terminal=True)
    with begin(screen, num_frames=100) as progress:
        clock.now = 100.0
        progress.add(result())
    assert "50%" in screen.file.getvalue()
    assert "shards" not in screen.file.getvalue()
