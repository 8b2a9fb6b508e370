"""What driving costs: time per shard, memory, and how near n actors come to n times the work of one."""

from __future__ import annotations

import os
import time

import psutil
import pytest
from ray import cloudpickle

import tests.labeling.ray.sleepers as sleepers
from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.events import ActorUp
from gsvnet.labeling.ray.loop import run_shards
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.schedule import Schedule
from gsvnet.labeling.tasks import ShardResult
from tests.labeling.ray.sleepers import SleepSpec, make_tasks

cloudpickle.register_pickle_by_value(sleepers)

NUM_SHARDS = int(os.environ.get("NUM_SHARDS", "20000"))


@pytest.fixture(scope="module")
def _cluster():
    with connect(min_cpus=16, object_store_bytes=100_000_000):
        yield


def drive(num_shards, *, num_actors, seconds=0.0):
    """Wall and processor seconds per shard of the driver from the first result to the last; its growth in bytes."""
    process, results, up = psutil.Process(), 0, 0
    options = RayOptions(num_actors=num_actors, cpus_per_actor=1, device="cpu")
    for event in run_shards(make_tasks(num_shards), spec=SleepSpec(seconds=seconds), weights="w", options=options):
        up += isinstance(event, ActorUp)
        if isinstance(event, ShardResult):
            results += 1
            if results == 100:
                began = time.perf_counter(), time.process_time(), process.memory_info().rss
    wall_s, busy_s = time.perf_counter() - began[0], time.process_time() - began[1]
    assert results == num_shards
    return wall_s / (results - 100), busy_s / (results - 100), process.memory_info().rss - began[2]


def first_starts(num_actors, seconds, num_shards):
    """Seconds that the actors were up together until all shards were done."""
    options = RayOptions(num_actors=num_actors, cpus_per_actor=1, device="cpu")
    up_s, ends_s = [], []
    for event in run_shards(make_tasks(num_shards), spec=SleepSpec(seconds=seconds), weights="w", options=options):
        if isinstance(event, ActorUp):
            up_s.append(time.perf_counter())
        if isinstance(event, ShardResult):
            ends_s.append(time.perf_counter())
    return up_s, ends_s


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_shards_are_driven_in_five_minutes():
    wall_s, busy_s, grown = drive(NUM_SHARDS, num_actors=2)
    print(
        f"{NUM_SHARDS:,} shards: {1e3 * wall_s:.2f} ms each, {1e3 * busy_s:.2f} ms of the driver's processor time, "
        f"{grown / 1e6:.0f} MB more than after the first 100, {psutil.Process().memory_info().rss / 1e6:.0f} MB in all"
    )
    assert busy_s < 0.002
    assert wall_s * 100_000 < 300


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("num_actors", [4, 16])
def test_sixteen_actors_do_nearly_sixteen_times_the_work_of_one(num_actors):
    seconds, rounds = 1.0, 12
    up_s, ends_s = first_starts(num_actors, seconds, num_actors * rounds)
    busy_s = len(ends_s) * seconds
    paid_s = sum(ends_s[-1] - since_s for since_s in up_s)
    print(f"{num_actors} actors: efficiency {busy_s / paid_s:.3f}")
    assert busy_s / paid_s >= 0.9


def test_what_waits_takes_little_memory_however_long_the_job():
    process = psutil.Process()
    before = process.memory_info().rss
    schedule = Schedule(make_tasks(60_000))
    assert schedule.num_waiting == schedule.lookahead
    while (task := schedule.take()) is not None:
        schedule.finish(task)
    assert schedule.num_finished == 60_000
    assert process.memory_info().rss - before < 40e6
