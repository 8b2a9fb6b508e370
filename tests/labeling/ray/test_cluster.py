from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from gsvnet.errors import ConfigError
from gsvnet.labeling.ray.actor import choose_device
from gsvnet.labeling.ray.cluster import connect, count_places, resolve_options
from gsvnet.labeling.ray.options import RayOptions
from tests.outputs import wait_until


def node(cpu, gpu=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpu} | ({"GPU": gpu} if gpu else {})}


def places(nodes, **options):
    return count_places(nodes, RayOptions(**options))


def test_places_are_counted_node_by_node():
    assert places([node(3), node(3)], cpus_per_actor=2) == 2
    assert places([node(16, 4), node(16, 4), node(8)], cpus_per_actor=2, gpus_per_actor=1) == 8  # no GPU on the head
    assert places([node(4, 8)], cpus_per_actor=2, gpus_per_actor=1) == 2
    assert places([node(8, 2), node(8, 2, alive=False)], cpus_per_actor=1, gpus_per_actor=1) == 2
    assert places([node(1)], cpus_per_actor=2) == 0


@pytest.mark.parametrize(("share", "actors"), [(0.5, 2), (0.25, 4), (0.4, 2), (1 / 3, 3), (0.1, 10), (2, 0)])
def test_a_share_of_a_gpu_does_not_straddle_two(share, actors):
    assert places([node(64, 1)], cpus_per_actor=1, gpus_per_actor=share) == actors


def test_an_actor_gets_one_gpu_where_there_is_one_and_it_may_use_it():
    gpus = {d: resolve_options(RayOptions(device=d), [node(4, 2)]).gpus_per_actor for d in ("auto", "cpu", "cuda")}
    assert gpus == {"auto": 1, "cpu": 0, "cuda": 1}
    assert resolve_options(RayOptions(), [node(4)]).gpus_per_actor == 0
    assert resolve_options(RayOptions(gpus_per_actor=0.5), [node(4)]).gpus_per_actor == 0.5


def test_cuda_without_a_gpu_from_ray_is_an_error_not_the_cpu():
    assert choose_device("auto", has_gpu=False) == "cpu"
    with pytest.raises(Exception, match="Ray gave this actor no GPU"):
        choose_device("cuda", has_gpu=False)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"num_actors": 0}, "--num-actors is 0"),
        ({"cpus_per_actor": 0}, "--cpus-per-actor is 0"),
        ({"gpus_per_actor": -1}, "--gpus-per-actor is -1"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor is 1.5"),
        ({"shard_timeout_s": 0}, "--shard-timeout-s is 0"),
        ({"device": "cuda", "gpus_per_actor": 0}, "--device cuda"),
    ],
)
def test_bad_options_are_named_by_their_flag(options, flag):
    with pytest.raises(ConfigError, match=flag):
        RayOptions(**options)


def test_an_address_where_nobody_listens_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=127\.0\.0\.1:1: .*refused"), connect():
        pass


class Driver:
    """A Python process with a home of its own; `read` gives the next line that it prints."""

    def __init__(self, code, home, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=clean | {"HOME": str(home), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read(self):
        return self.process.stdout.readline().strip()

    def finish(self):
        return self.process.communicate("\n", timeout=240)


LOCAL = """
import os, ray
from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.options import RayOptions
from tests.outputs import wait_until
before = dict(os.environ)
with connect(min_cpus=3) as cluster:
    print(cluster.started_here, ray.cluster_resources()["CPU"] >= 3, cluster.fit(RayOptions(cpus_per_actor=3))[1] >= 1)
    print(ray.get_runtime_context().gcs_address, flush=True)
    @ray.remote(num_cpus=1)
    class Sleeper:
        def pid(self): return os.getpid()
    sleeper = Sleeper.remote()
    print(ray.get(sleeper.pid.remote()), flush=True)
    print(ray._private.worker._global_node.get_session_dir_path(), flush=True)
    input()
print(ray.is_initialized(), {k for k in os.environ if k not in before and k.startswith("RAY_")})
"""

JOIN = """
import ray
from gsvnet.labeling.ray.cluster import connect
with connect() as cluster:
    print(cluster.started_here, ray.get_runtime_context().gcs_address)
"""


@pytest.mark.slow
def test_a_local_cluster_is_quiet_and_leaves_nothing_behind(tmp_path):
    driver = Driver(LOCAL, tmp_path)
    assert driver.read() == "True True True"
    driver.read()
    pid, session = int(driver.read()), Path(driver.read())
    out, err = driver.finish()
    assert out.strip() == "False set()"
    assert err == ""
    assert list(tmp_path.iterdir()) == []  # no ~/.ray/auth_token
    wait_until(lambda: not session.parent.exists() and not psutil.pid_exists(pid), limit_s=60)


@pytest.mark.slow
def test_a_cluster_that_ray_address_names_is_joined_and_left_running(tmp_path):
    with tempfile.TemporaryDirectory(prefix="gsv-", dir="/tmp") as folder:
        isolated = {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}
        host = Driver(LOCAL, tmp_path, **isolated)
        host.read()
        address = host.read()
        guest_out, _ = Driver(JOIN, tmp_path, RAY_ADDRESS=address, **isolated).finish()
        assert guest_out.strip() == f"False {address}"
        pid = int(host.read())
        assert psutil.pid_exists(pid)
        assert host.finish()[0].splitlines()[-1].startswith("False")


@pytest.mark.slow
def test_a_killed_driver_leaves_no_actor_and_no_cluster(tmp_path):
    driver = Driver(LOCAL, tmp_path)
    for _ in range(2):
        driver.read()
    actor = int(driver.read())
    session = driver.read()
    driver.process.send_signal(signal.SIGKILL)
    driver.process.wait()
    limit_s = time.monotonic() + 120
    while (left := _processes_of(session, actor)) and time.monotonic() < limit_s:
        time.sleep(0.2)
    shutil.rmtree(Path(session).parent, ignore_errors=True)
    assert left == []


def _processes_of(session, actor):
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.info["status"] != "zombie" and (process.info["pid"] == actor or session in line):
            found.append(line)
    return found
