"""The driver loop on real Ray actors. Only the worker is a stand-in: it sleeps, dies or raises as told."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

import tests.labeling.ray.troublemakers as troublemakers
from gsvnet.errors import NoSpace, StoreUnavailable, WorkerError
from gsvnet.labeling.ray import loop
from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.events import ActorLost, ActorResting, ActorUp, Drained, FleetStatus, ShardRetried
from gsvnet.labeling.ray.loop import run_shards
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.schedule import Schedule
from gsvnet.labeling.tasks import ShardFailure, ShardResult
from tests.labeling.ray.troublemakers import FakeSpec, done, is_running, num_starts, of_type, pids_in, wait_until

cloudpickle.register_pickle_by_value(troublemakers)


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    with connect(min_cpus=4, num_gpus=1, object_store_bytes=100_000_000):
        yield


def num_cpus():
    return int(ray.cluster_resources()["CPU"])


@pytest.fixture
def run(tmp_path, make_tasks):
    """Runs shards 0..n-1 of one video; returns the events, `.raised` last if the run raised."""

    def _run(num_shards, *, weights="hash", stop=None, on_event=None, model_hash=None, spec=None, cut=None, **options):
        spec = {"seconds": 0.0, **(spec or {})}
        options = {"num_actors": 1, "cpus_per_actor": 1, "device": "cpu", **options}
        events = run_shards(
            make_tasks(num_shards),
            spec=FakeSpec(folder=tmp_path, **spec),
            weights=weights,
            options=RayOptions(**options),
            model_hash=model_hash,
            stop=stop,
            cut=cut,
        )
        seen = []
        with contextlib.closing(events):
            for event in events:
                seen.append(event)
                if on_event is not None and on_event(event):
                    break
        return seen

    return _run


def test_an_actor_hears_of_the_shard_that_waits_behind_the_running_one(run, tmp_path):
    run(4, spec={"seconds": 0.3})
    assert [tmp_path.with_suffix(f".prepared{index}").exists() for index in range(4)] == [False, True, True, False]


@pytest.mark.parametrize("num_actors", [1, 2])
def test_every_shard_runs_exactly_once(run, tmp_path, num_actors):
    events = run(12, num_actors=num_actors, spec={"seconds": 0.05, "meet": num_actors})
    assert done(events) == list(range(12))
    assert [num_starts(tmp_path, i) for i in range(12)] == [1] * 12
    assert len(pids_in(tmp_path)) == num_actors == len(of_type(events, ActorUp))


def test_there_are_no_more_actors_than_shards_or_places(run):
    assert len(of_type(run(1, num_actors=3), ActorUp)) == 1
    events = run(6, num_actors=None, spec={"seconds": 0.2, "meet": 2}, cpus_per_actor=num_cpus() // 2)
    assert len(of_type(events, ActorUp)) == 2


def test_a_killed_actor_costs_one_attempt_and_one_replacement(run, tmp_path):
    events = run(6, spec={"trouble": {2: "kill once"}})
    assert done(events) == list(range(6))
    assert len(of_type(events, ActorLost)) == 1
    assert len(of_type(events, ActorUp)) == 2
    assert [(e.shard_index, e.attempts) for e in of_type(events, ShardRetried)] == [(2, 1)]
    assert Counter(num_starts(tmp_path, i) for i in range(6)) == {1: 5, 2: 1}


def test_a_shard_that_kills_its_worker_twice_is_poison_and_the_job_goes_on(run):
    events = run(5, spec={"trouble": {1: "kill"}})
    (failure,) = of_type(events, ShardFailure)
    assert (failure.shard_index, failure.error, failure.attempts) == (1, "WorkerError", 2)
    assert failure.message.startswith(
        "poison: it took down its worker 2 times (The actor is dead because its worker process has died"
    )
    assert "common causes" not in failure.message
    assert done(events) == [0, 2, 3, 4]


def test_a_shard_that_raises_is_tried_three_times(run):
    events = run(3, spec={"trouble": {0: "raise"}})
    (failure,) = of_type(events, ShardFailure)
    assert (failure.shard_index, failure.error, failure.attempts) == (0, "ValueError", 3)
    assert failure.message == "cannot use s3://bucket/drive.mp4"
    assert done(events) == [1, 2]
    assert not of_type(events, ActorLost)
    assert "cause_trouble" in of_type(events, ShardRetried)[0].traceback


def test_a_video_error_is_retried_once(run):
    (failure,) = of_type(run(2, spec={"trouble": {0: "video"}}), ShardFailure)
    assert (failure.error, failure.attempts) == ("NotAVideo", 2)


def test_a_shard_past_its_deadline_loses_its_actor_and_is_tried_again(run):
    events = run(3, spec={"trouble": {1: "hang once"}}, shard_timeout_s=5)
    assert done(events) == [0, 1, 2]
    (lost,) = of_type(events, ActorLost)
    assert lost.reason == "ran longer than --shard-timeout-s 5"
    assert wait_until(lambda: not is_running(lost.report.pid))


def test_an_actor_after_whose_start_every_shard_raises_is_replaced(run):
    events = run(4, spec={"trouble": {i: "raise once" for i in range(4)}})
    assert done(events) == [0, 1, 2, 3]
    (lost,) = of_type(events, ActorLost)
    assert lost.reason.startswith("3 shards in a row raised; the last: ValueError")


@pytest.mark.parametrize(("trouble", "error"), [("space", NoSpace), ("outage", StoreUnavailable)])
def test_an_outage_in_which_nothing_gets_done_ends_the_job_with_its_error(run, trouble, error):
    with pytest.raises(error, match=r"2 GB are free|503"):
        run(3, spec={"trouble": dict.fromkeys(range(3), trouble)}, outage_timeout_s=1.5)


def test_an_outage_is_waited_for_and_charged_to_nobody(run, monkeypatch):
    monkeypatch.setattr(loop, "STATUS_EVERY_S", 0.05)
    trouble = {0: "outage once", 1: "space once", 2: "outage once"}
    events = run(4, spec={"trouble": trouble}, max_attempts=1)
    assert done(events) == [0, 1, 2, 3]
    (resting,) = of_type(events, ActorResting)  # one outage, one line
    assert (resting.number, resting.reason) == (0, "StoreUnavailable: 503 SlowDown")
    assert 0.5 <= resting.seconds <= 1
    assert max(e.num_resting for e in of_type(events, FleetStatus)) == 1
    assert not of_type(events, ShardFailure) + of_type(events, ShardRetried) + of_type(events, ActorLost)


def test_while_one_actor_rests_the_others_go_on(run, tmp_path):
    events = run(12, num_actors=2, spec={"trouble": {0: "outage once"}, "seconds": 0.1})
    assert done(events) == list(range(12))
    assert num_starts(tmp_path, 0) == 2


def test_an_actor_whose_start_meets_an_outage_starts_again(run):
    events = run(2, weights="unreachable once")
    assert done(events) == [0, 1]
    assert len(of_type(events, ActorResting)) == len(of_type(events, ActorUp)) == 1
    assert not of_type(events, ActorLost)


@pytest.mark.slow
def test_a_process_that_gives_no_sign_of_life_is_killed_and_its_shard_runs_again(run):
    def freeze(event):
        if isinstance(event, ActorUp) and event.number == 0:
            pid = event.report.pid
            threading.Timer(1.0, os.kill, (pid, signal.SIGSTOP)).start()

    events = run(2, spec={"seconds": 2.5}, silence_s=1.5, on_event=freeze)
    assert done(events) == [0, 1]
    (lost,) = of_type(events, ActorLost)
    assert lost.reason == "gave no sign of life for 1.5 s"
    assert [e.shard_index for e in of_type(events, ShardRetried)] == [0]
    assert wait_until(lambda: not is_running(lost.report.pid))


@pytest.mark.slow
def test_a_killed_actors_shard_runs_elsewhere_soon(run, tmp_path):
    started = {}

    def kill(event):
        if isinstance(event, FleetStatus) and event.num_up == 2 and not started and (files := [*tmp_path.glob("0.*")]):
            os.kill(int(files[0].name.split(".")[1]), signal.SIGKILL)
            started["killed_s"] = time.monotonic()

    events = run(4, num_actors=2, spec={"seconds": 1.5, "trouble": {0: "hang once"}}, on_event=kill)
    assert done(events) == [0, 1, 2, 3]
    again_ns = max(int(file.name.split(".")[2]) for file in tmp_path.glob("0.*"))
    assert 0 < again_ns / 1e9 - started["killed_s"] < 20  # five where the machine is not busy


def test_tasks_that_become_known_later_are_labeled_and_nobody_is_hired_before(tmp_path, make_tasks):
    stream = (task if task else time.sleep(0.1) for task in [*[None] * 3, *make_tasks(2), None, *make_tasks(4)[2:]])
    options = RayOptions(num_actors=2, cpus_per_actor=1, device="cpu")
    events = list(run_shards(stream, spec=FakeSpec(folder=tmp_path), weights="hash", options=options))
    assert done(events) == [0, 1, 2, 3]
    first = events[0]
    assert isinstance(first, FleetStatus)
    assert (first.num_starting, first.num_up) == (0, 0)


def test_results_name_the_actor_s_node_and_gpu(run):
    events = run(8, num_actors=2, gpus_per_actor=0.5, spec={"seconds": 0.2})
    node = of_type(events, ActorUp)[0].report.node_ip
    assert {(e.node, e.gpu) for e in of_type(events, ShardResult)} == {(node, "0")}


def test_an_actor_with_another_model_ends_the_job_before_it_gets_work(run, tmp_path):
    with pytest.raises(WorkerError, match=r"hash theirs.* the job's is ours"):
        run(3, weights="theirs", model_hash="ours")
    assert not list(tmp_path.iterdir())


def test_actors_that_differ_from_the_first_end_the_job(run):
    with pytest.raises(WorkerError, match="install the same"):
        run(20, spec={"one_hash_per_process": True, "seconds": 60}, num_actors=2)


def test_a_worker_that_cannot_be_built_ends_the_job_with_its_reason(run):
    with pytest.raises(WorkerError, match="RuntimeError: no such layer: stem"):
        run(3, weights="unbuildable")


def test_losing_more_actors_than_the_budget_ends_the_job(run):
    with pytest.raises(WorkerError, match="2 actors were lost, --max-replacements is 1"):
        run(5, spec={"trouble": {0: "kill", 1: "kill"}}, max_replacements=1)


def test_actors_that_find_no_place_end_the_job_with_what_was_asked_and_what_is_there(run):
    too_many = num_cpus() + 1
    there = rf"1 node\(s\), 1 GPU, {num_cpus()} CPU"
    with pytest.raises(WorkerError, match=rf"1 x \(0 GPU, {too_many} CPU\); the cluster has: {there}"):
        run(1, cpus_per_actor=too_many, actor_start_timeout_s=0.5)


def test_an_actor_with_a_gpu_that_sees_no_cuda_does_not_fall_back(run, tmp_path):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has CUDA")
    with pytest.raises(WorkerError, match=r"given a GPU .* sees no CUDA"):
        run(1, device="auto")
    assert not list(tmp_path.iterdir())


def test_actors_share_a_gpu_by_fractions(run):
    events = run(8, num_actors=None, gpus_per_actor=0.5, spec={"seconds": 0.3, "meet": 2})
    assert len(of_type(events, ActorUp)) == 2


def test_a_stop_lets_running_shards_finish_and_begins_none(run, tmp_path):
    stop = threading.Event()
    events = run(
        20, spec={"seconds": 0.4}, stop=stop, on_event=lambda e: isinstance(e, ShardResult) and stop.set(), drain_s=20
    )
    assert done(events) == [0, 1]
    assert events[-1] == Drained(num_cut=0)


def test_a_stop_cuts_what_does_not_finish_in_time(run):
    stop = threading.Event()
    events = run(
        2,
        spec={"trouble": {0: "hang"}},
        stop=stop,
        on_event=lambda e: isinstance(e, FleetStatus) and e.num_running == 1 and stop.set(),
        drain_s=0.3,
    )
    assert done(events) == []
    assert events[-1] == Drained(num_cut=1)


def test_a_cut_waits_for_nothing(run):
    cut = threading.Event()
    events = run(
        2,
        spec={"trouble": {0: "hang"}},
        cut=cut,
        on_event=lambda e: isinstance(e, FleetStatus) and e.num_running == 1 and cut.set(),
    )
    assert events[-1] == Drained(num_cut=1)


def test_a_run_whose_copies_come_late_takes_shards_at_random_places(run, monkeypatch):
    monkeypatch.setattr(Schedule, "scatter", lambda self, seed: seeds.append(seed))
    seeds = []
    run(2)
    assert seeds == []
    run(2, spec={"published": False})
    assert seeds == [os.getpid()] * 2


def test_closing_the_run_early_leaves_no_actor(run):
    events = run(9, spec={"seconds": 0.2}, on_event=lambda e: isinstance(e, ShardResult))
    (up,) = of_type(events, ActorUp)
    assert wait_until(lambda: not is_running(up.report.pid))


def test_driving_costs_a_few_milliseconds_per_shard(run):
    times = [time.process_time()]  # the driver's own work: what others do on the machine does not count
    run(400, on_event=lambda e: times.append(time.process_time()) if isinstance(e, ShardResult) else None)
    assert (times[-1] - times[1]) / 399 < 0.010  # 0.001 on an idle machine


def test_weights_are_put_into_the_object_store_once(run, monkeypatch):
    puts = []
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value) or put(value))
    run(4, num_actors=2, spec={"seconds": 0.1})
    assert puts == ["hash"]
