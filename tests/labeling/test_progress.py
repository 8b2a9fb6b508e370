from __future__ import annotations

import pytest
from rich.console import Console

from gsvnet.labeling import progress as module
from gsvnet.labeling.progress import JobProgress, count_planned
from gsvnet.labeling.tasks import ShardFailure, ShardResult


@pytest.fixture
def clock(hold_clock):
    return hold_clock(module)


@pytest.fixture
def log(make_console):
    """Where a program without a terminal prints."""
    return make_console()


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


def test_without_a_terminal_a_line_comes_every_half_minute(clock, log):
    with JobProgress(total_frames=200, total_shards=4, console=log) as progress:
        for clock.now in (5.0, 10.0, 29.0):
            progress.tick(num_actors=1)
        assert log.file.getvalue() == ""
        progress.add(result())
        clock.now = 50.0
        progress.tick(num_actors=1)
        clock.now = 60.0
        progress.tick(num_actors=1)
        clock.now = 80.0
        progress.tick(num_actors=1, frames_running=30)
    assert log.file.getvalue().splitlines() == [
        "1/4 shards · 50/200 frames · 1.0 frames/s · 0.04x realtime · 2:30 to go",
        "1/4 shards · 80/200 frames · 1.0 frames/s · 0.04x realtime · 2:00 to go",
    ]


def test_nothing_is_promised_before_the_first_frame(clock, log):
    progress = JobProgress(total_frames=200, total_shards=4, console=log)
    clock.now = 31.0
    progress.tick(num_actors=0)
    assert log.file.getvalue() == "0/4 shards · 0/200 frames · starting\n"


def test_hours_to_go_are_shown_as_hours(clock):
    progress = JobProgress(total_frames=10_000, total_shards=9, console=Console(quiet=True))
    clock.now = 50.0
    progress.add(result())
    assert progress.rate().endswith("2:45:50 to go")


def test_failures_and_notes_are_one_line_each_whatever_they_hold(make_console):
    log = make_console(width=20)
    progress = JobProgress(total_frames=1, total_shards=1, console=log)
    failure = ShardFailure(video_id="a-1", shard_index=3, error="E", message="[red]x[/b].mp4:\n  it broke", attempts=1)
    progress.fail(failure)
    progress.fail(ShardFailure(video_id="b-2", shard_index=None, error="E", message="b.mp4: nothing", attempts=1))
    progress.note("a [1] note\nof two lines")
    assert log.file.getvalue().splitlines() == [
        "failed a-1 shard 3: [red]x[/b].mp4: it broke",
        "failed b.mp4: nothing",
        "note a [1] note of two lines",
    ]
    assert len(progress.failures) == 2


def test_the_most_actors_that_were_up_are_kept():
    progress = JobProgress(total_frames=1, total_shards=1, console=Console(quiet=True))
    for num_actors in (1, 3, 2):
        progress.tick(num_actors=num_actors)
    assert progress.num_actors == 3


def test_planning_speaks_up_only_when_it_takes_long(clock, log):
    def plan():
        for clock.now in (1.0, 31.0, 40.0):
            yield clock.now

    assert list(count_planned(plan(), total=3, console=log)) == [1.0, 31.0, 40.0]
    assert log.file.getvalue() == "2/3 videos planned\n"


def test_a_terminal_gets_a_bar_and_no_lines(clock, make_console):
    screen = make_console(force_terminal=True)
    with JobProgress(total_frames=100, total_shards=2, console=screen) as progress:
        clock.now = 100.0
        progress.add(result())
    assert "50%" in screen.file.getvalue()
    assert "shards" not in screen.file.getvalue()
