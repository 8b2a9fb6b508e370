"""The driver loop on clusters of several nodes: they join, die and are shared. Drivers are processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.clusters import Node, ray_nodes

pytestmark = pytest.mark.slow  # 10 s to start a cluster

DRIVER = """
import json, os, sys, time
import ray
from gsvnet.errors import GsvnetError
from gsvnet.labeling.ray.loop import run_shards
from gsvnet.labeling.ray.options import RayOptions
from tests.labeling.ray.sleepers import SleepSpec, make_tasks

def say(**what):
    print(json.dumps({"t": time.monotonic(), **what}), flush=True)

ray.init(log_to_driver=False)
settings = json.loads(sys.argv[1])
spec = SleepSpec(seconds=settings.pop("seconds"))
tasks = make_tasks(settings.pop("shards"))
try:
    for event in run_shards(tasks, spec=spec, weights="hash", options=RayOptions(device="cpu", **settings)):
        plain = {name: value for name, value in vars(event).items() if isinstance(value, (str, int))}
        report = getattr(event, "report", None)
        about = {}
        if report:
            about = {"node_id": report.node_id, "gpu": report.gpu, "sees": report.notes[0]}
        say(kind=type(event).__name__, **plain, **about)
except GsvnetError as error:
    say(kind=type(error).__name__, message=str(error))
    sys.exit(1)
"""


class Driver:
    """A process that runs `run_shards` and prints its events; they are read as they come."""

    def __init__(self, cluster, **settings):
        settings = {"cpus_per_actor": 1, "seconds": 0.5, "node_verdict_s": 8.0, **settings}
        self.events = []
        self.process = psutil.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(settings)],
            cwd=Path(__file__).parents[3],
            env=cluster.environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.append(json.loads(line))

    def of(self, kind):
        return [e for e in list(self.events) if e["kind"] == kind]

    def wait_for(self, condition, seconds=60):
        limit_s = time.monotonic() + seconds
        while not condition() and self.process.poll() is None and time.monotonic() < limit_s:
            time.sleep(0.02)
        assert condition(), (self.process.poll(), self.events[-5:])

    def finish(self, seconds=90):
        code = self.process.wait(timeout=seconds)
        self._reader.join()
        return code

    def done(self):
        return Counter(e["shard_index"] for e in self.of("ShardResult"))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()


@pytest.fixture
def drive():
    drivers = []

    def _drive(cluster, **settings):
        drivers.append(Driver(cluster, **settings))
        return drivers[-1]

    yield _drive
    for driver in drivers:
        driver.close()


def test_actors_follow_nodes_that_join_and_survive_nodes_that_die(drive):
    head, two_gpus = Node(cpus=2), Node(cpus=2, gpus=2)
    with ray_nodes([head, two_gpus]) as cluster:
        driver = drive(cluster, shards=60, gpus_per_actor=1.0, seconds=1.0)
        driver.wait_for(lambda: len(driver.of("ActorUp")) == 2)  # none on the head, which has no GPU
        second = cluster.add(two_gpus)
        driver.wait_for(lambda: len(driver.of("ActorUp")) == 4)
        ups = driver.of("ActorUp")
        assert Counter(Counter(e["node_id"] for e in ups).values()) == {2: 2}
        driver.wait_for(lambda: len(driver.of("ShardResult")) >= 15)
        cluster.kill(second)
        killed_s = time.monotonic()
        assert driver.finish() == 0
        lost = driver.of("ActorLost")
        assert {e["node_id"] for e in lost} == {ups[-1]["node_id"]}
        assert driver.done() == dict.fromkeys(range(60), 1)
        assert all(e["t"] - killed_s < 5 for e in lost)  # before Ray knows that the node died
        assert len({(e["node_id"], e["gpu"]) for e in ups}) == 4


def test_actors_are_pinned_to_gpus_of_their_own_or_share_one_by_halves(drive):
    with ray_nodes([Node(cpus=4), Node(cpus=4, gpus=2)]) as cluster:
        for share, actors in ((1.0, 2), (0.5, 4)):
            driver = drive(cluster, shards=12, gpus_per_actor=share, seconds=0.5)
            assert driver.finish() == 0
            assert len(driver.of("ActorUp")) == actors
            seen = Counter((e["gpu"], e["sees"]) for e in driver.of("ActorUp"))
            assert seen == {("0", "0"): actors // 2, ("1", "1"): actors // 2}
            assert {e["gpu"] for e in driver.of("ShardResult")} == {"0", "1"}


def test_shards_on_a_spot_node_that_dies_again_and_again_are_not_poison(drive):
    spot = Node(cpus=2, resources={"spot": 1})
    with ray_nodes([Node(cpus=0), spot]) as cluster:
        driver = drive(cluster, shards=2, num_actors=2, seconds=6.0, max_kills=2, max_attempts=2)
        for _ in range(3):
            driver.wait_for(lambda: driver.of("FleetStatus") and driver.of("FleetStatus")[-1]["num_running"] == 2)
            cluster.kill(cluster.nodes[1])
            cluster.add(spot)
        assert driver.finish() == 0
        assert driver.done() == {0: 1, 1: 1}
        assert len(driver.of("ActorLost")) >= 6
        assert not driver.of("ShardFailure")


def test_a_dead_head_ends_the_job_with_one_error_in_bounded_time(drive):
    with ray_nodes([Node(cpus=1), Node(cpus=1)]) as cluster:
        driver = drive(cluster, shards=50, seconds=1.0)
        driver.wait_for(lambda: len(driver.of("ShardResult")) >= 2)
        cluster.kill(cluster.nodes[0])
        assert driver.finish(seconds=75) == 1
        (error,) = driver.of("WorkerError")
        assert "the head of the Ray cluster" in error["message"]


def test_a_job_waits_for_places_that_another_one_uses(drive):
    with ray_nodes([Node(cpus=2)]) as cluster:
        first = drive(cluster, shards=12, seconds=1.0)
        first.wait_for(lambda: len(first.of("ActorUp")) == 2)
        second = drive(cluster, shards=4, seconds=0.1, actor_start_timeout_s=1.0)
        assert first.finish() == second.finish() == 0
        assert first.done() == dict.fromkeys(range(12), 1)
        assert second.done() == dict.fromkeys(range(4), 1)
        assert second.of("ActorUp")[0]["t"] > first.of("ShardResult")[-3]["t"]
