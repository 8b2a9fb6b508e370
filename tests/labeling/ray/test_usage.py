from __future__ import annotations

import pytest

from gsvnet.labeling.ray.events import ActorLost, ActorReport, ActorResting, ActorUp, FleetStatus, ShardRetried
from gsvnet.labeling.ray.same_code import own_code
from gsvnet.labeling.ray.usage import Usage, UsageMeter

REPORT = ActorReport(
    model_hash="a", device="cuda", device_name="X", node_id="n", node_ip="10.0.0.1", pid=1, code=own_code()
)


class Run:
    """Events at given seconds."""

    def __init__(self, **options):
        self.now = 0.0
        self.meter = UsageMeter(clock=lambda: self.now, **options)

    def at(self, now, *events):
        self.now = now
        for event in events:
            self.meter.observe(event)
        return self

    def usage_at(self, now):
        self.now = now
        return self.meter.usage()


def up(number):
    return ActorUp(number=number, report=REPORT)


def lost(number, *, report=REPORT):
    return ActorLost(number=number, report=report, reason="died", with_its_node=False)


def fleet(*, up, running, waiting=0):
    return FleetStatus(num_waiting=waiting, num_running=running, num_up=up, num_starting=0)


def test_nothing_is_used_before_an_actor_is_up():
    assert Run().usage_at(100.0) == Usage()
    assert Usage().idle_share == 0.0


def test_actor_and_gpu_time_run_from_up_to_lost():
    run = Run(gpus_per_actor=0.5).at(10.0, up(0)).at(20.0, up(1)).at(50.0, lost(0))
    usage = run.usage_at(100.0)
    assert usage.actor_s == 40.0 + 80.0
    assert usage.gpu_s == 60.0
    assert (usage.starts, usage.actors_lost) == (2, 1)


def test_an_actor_that_never_came_up_takes_no_time_of_another():
    usage = Run().at(0.0, up(0)).at(5.0, lost(1, report=None)).usage_at(10.0)
    assert (usage.actor_s, usage.actors_lost) == (10.0, 1)


def test_actors_that_are_let_go_without_a_word_are_seen_in_the_next_picture():
    run = Run().at(0.0, up(0), up(1), fleet(up=2, running=2)).at(30.0, fleet(up=1, running=1))
    assert run.usage_at(40.0).actor_s == 70.0


def test_an_actor_without_a_shard_is_idle():
    run = Run().at(0.0, up(0), up(1)).at(10.0, fleet(up=2, running=1)).at(30.0, fleet(up=2, running=2))
    usage = run.usage_at(40.0)
    assert usage.idle_s == 2 * 10.0 + 20.0
    assert usage.idle_share == pytest.approx(0.5)


def test_a_new_actor_is_not_idle_while_shards_wait():
    run = Run().at(0.0, fleet(up=0, running=0, waiting=5)).at(10.0, up(0)).at(11.0, fleet(up=1, running=1, waiting=4))
    assert run.usage_at(20.0).idle_s == 0.0


def test_the_tail_begins_when_the_first_actor_goes_dry_for_good():
    run = Run().at(0.0, fleet(up=3, running=3, waiting=9))
    run.at(10.0, fleet(up=3, running=2, waiting=9))  # between two shards
    run.at(11.0, fleet(up=3, running=3, waiting=4))
    run.at(50.0, fleet(up=3, running=2)).at(51.0, fleet(up=2, running=2)).at(60.0, fleet(up=1, running=1))
    assert run.usage_at(65.0).tail_s == 15.0


def test_a_lost_actor_that_is_not_replaced_is_no_tail():
    run = Run().at(0.0, up(0), up(1), fleet(up=2, running=2)).at(10.0, lost(1), fleet(up=1, running=1, waiting=5))
    assert run.usage_at(90.0).tail_s == 0.0


def test_tries_that_went_wrong_are_counted():
    again = ShardRetried(video_id="a", shard_index=0, attempts=1, error="E", message="m")
    outage = ActorResting(number=0, report=REPORT, reason="no answer", seconds=1.0)
    usage = Run().at(1.0, again, again, outage).usage_at(2.0)
    assert (usage.retries, usage.outages, usage.actors_lost) == (2, 1, 0)
