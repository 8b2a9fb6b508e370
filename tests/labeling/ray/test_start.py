"""Ray's start on this machine, where it gives up before it is up. `ray.init` is a stand-in; the child is real."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest
import ray

import gsvnet.labeling.ray.cluster as cluster
from gsvnet.errors import WorkerError
from gsvnet.process import child_processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
RAYLET = [*SLEEP, "raylet"]


@pytest.fixture
def starts(monkeypatch):
    """Processes that each try of `ray.init` left running; as many tries as `starts.failing` give up."""

    class Starts(list):
        failing = 0

    started, others = Starts(), []

    def init(**options):
        assert options == {"address": "local", "num_cpus": 2}
        started.append(subprocess.Popen(RAYLET))
        others.append(subprocess.Popen(SLEEP))  # by another thread of the process, say
        if len(started) <= started.failing:
            raise Exception("The current node timed out during startup. This could happen because some")

    monkeypatch.setattr(ray, "init", init)
    yield started
    assert [process.poll() for process in others] == [None] * len(others)
    for process in [*started, *others]:
        process.kill()
        process.wait()


def test_a_start_that_gave_up_is_tried_again_and_leaves_nothing(starts):
    mine = subprocess.Popen(SLEEP)
    starts.failing = 1
    cluster._start(num_cpus=2)
    assert len(starts) == 2
    assert starts[0].wait(timeout=60) == -9
    assert mine.pid in child_processes()
    assert psutil.Process(mine.pid).status() != psutil.STATUS_ZOMBIE
    assert starts[1].poll() is mine.poll() is None
    mine.kill()
    mine.wait()


def test_a_machine_on_which_ray_does_not_start_is_one_line(starts):
    starts.failing = 9
    with pytest.raises(WorkerError, match="Ray did not start here within 30 s, 2 times; is the machine overloaded"):
        cluster._start(num_cpus=2)
    assert [process.wait(timeout=60) for process in starts] == [-9, -9]


def test_another_error_of_ray_is_told_as_it_is(monkeypatch):
    def init(**options):
        raise ValueError("no such address")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match="no such address"):
        cluster._start(num_cpus=2)
