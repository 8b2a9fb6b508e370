"""Planning in real Ray tasks; a stand-in for the planning of one video dies, raises or sleeps as told by its name."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from ray import cloudpickle

from gsvnet.errors import StoreError, WorkerError
from gsvnet.labeling.plan import PlanRule
from gsvnet.labeling.planning import Planned, PlanRequest, failed_video, plan_in_threads
from gsvnet.labeling.ray import plan as ray_plan
from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.plan import plan_on_ray, spread_over_ray
from gsvnet.labeling.tasks import describe_error

cloudpickle.register_pickle_by_value(sys.modules[__name__])

RULE = PlanRule(interval=5, shard_seconds=60.0, shard_frames=12)


@pytest.fixture(scope="module")
def cluster():
    import ray

    with connect(min_cpus=2, object_store_bytes=80_000_000) as cluster:
        reserved = ray.remote(num_cpus=ray.cluster_resources()["CPU"])(_Actor).remote()  # as a job's actors do
        ray.get(reserved.wait.remote())
        yield cluster


class _Actor:
    def wait(self):
        return None


@pytest.fixture
def act(cluster, monkeypatch):
    """Planning does what the name of the video says."""
    monkeypatch.setattr(ray_plan, "_plan_videos", _act)
    monkeypatch.setattr(ray_plan, "VIDEOS_PER_TASK", 4)


def _act(request, uris, stored):
    for uri in uris:
        name = Path(uri).name
        if "kill" in name:
            died_before = Path(request.out).with_name(f"{name}.died")
            if "once" not in name or not died_before.exists():
                died_before.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in name:
            time.sleep(600)
        if "store" in name:
            return describe_error(StoreError("cannot write the plan"))
    return [failed_video(uri, error="NotAVideo", message=uri) for uri in uris]


def plan(tmp_path, names) -> list[Planned]:
    request = PlanRequest(out=str(tmp_path / "out"), rule=RULE)
    return [p for p in plan_on_ray(request, [str(tmp_path / name) for name in names]) if p]


def test_tasks_plan_as_threads_do_though_actors_hold_every_cpu(cluster, drive, tmp_path):
    names = [shutil.copy(drive, tmp_path / f"{i}.mp4") and str(tmp_path / f"{i}.mp4") for i in range(20)]
    names.insert(3, str(tmp_path / "none.mp4"))
    in_tasks = list(plan_on_ray(PlanRequest(out=str(tmp_path / "out"), rule=RULE), iter(names)))
    in_tasks = [planned for planned in in_tasks if planned]
    assert [p.uri for p in in_tasks] == names
    assert in_tasks == list(plan_in_threads(PlanRequest(out=str(tmp_path / "out"), rule=RULE), names))
    assert [p.failure.error for p in in_tasks if p.failure] == ["VideoNotFound"]


def test_a_video_that_kills_its_process_fails_alone(act, tmp_path):
    names = ["a", "b", "kill", "c", "d", "e"]
    planned = plan(tmp_path, names)
    assert [Path(p.uri).name for p in planned] == names
    assert [p.failure.error for p in planned] == ["NotAVideo", "NotAVideo", "WorkerError", *3 * ["NotAVideo"]]
    assert "killed its process, twice" in planned[2].failure.message


def test_a_process_that_died_for_another_reason_costs_nothing(act, tmp_path):
    assert {p.failure.error for p in plan(tmp_path, ["a", "kill-once", "b"])} == {"NotAVideo"}


@pytest.mark.slow
def test_a_video_that_takes_for_ever_fails_alone(act, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_plan, "TASK_TIMEOUT_S", 2.0)
    planned = plan(tmp_path, ["a", "hang", "b"])
    assert [p.failure.error for p in planned] == ["NotAVideo", "WorkerError", "NotAVideo"]
    assert "took more than 2 s, twice" in planned[1].failure.message


def test_what_is_no_videos_fault_is_raised_as_it_was(act, tmp_path):
    with pytest.raises(StoreError, match="cannot write the plan"):
        plan(tmp_path, ["a", "store"])


def test_when_every_task_dies_the_cluster_is_blamed(act, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_plan, "MOST_DEATHS_IN_A_ROW", 2)
    with pytest.raises(WorkerError, match="2 planning tasks in a row died"):
        plan(tmp_path, ["a", "kill1", "kill2", "kill3"])


def test_videos_are_read_a_bounded_number_ahead(act, tmp_path):
    taken = []
    request = PlanRequest(out=str(tmp_path / "out"), rule=RULE)
    every = plan_on_ray(request, (taken.append(i) or str(tmp_path / f"{i}") for i in range(10_000)))
    answers = (planned for planned in every if planned)
    assert [Path(next(answers).uri).name for _ in range(8)] == [f"{i}" for i in range(8)]
    every.close()
    assert len(taken) <= 8 + 4 * 2 * ray_plan.ANSWERS_AHEAD


def test_other_work_is_spread_in_order_and_raises_its_own_errors(cluster):
    assert list(spread_over_ray(partial(pow, 2), range(30))) == [2**i for i in range(30)]
    with pytest.raises(WorkerError, match="TypeError"):
        list(spread_over_ray(partial(pow, 2), [1, "x"]))
