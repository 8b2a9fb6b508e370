"""The clusters that tests run on: nodes come and go, drivers join from their own process, nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from tests.clusters import Node, ray_nodes
from tests.namespaces import can_partition

pytestmark = pytest.mark.slow

DRIVER = """
import json, ray, time
ray.init(log_to_driver=False)
@ray.remote(num_gpus=1, num_cpus=0)
class ShardActor:
    def where(self): return ray.get_gpu_ids(), ray.util.get_node_ip_address()
actors = [ShardActor.remote() for _ in range(2)]
print(json.dumps(ray.get([actor.where.remote() for actor in actors])), flush=True)
end_s = time.monotonic() + 60
while time.monotonic() < end_s:
    print("alive", sum(node["Alive"] for node in ray.nodes()), flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def start_driver():
    started = []

    def start(cluster):
        command = [sys.executable, "-c", DRIVER]
        process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def seconds_until(driver, num_alive):
    """How long it takes until the driver sees so many nodes."""
    began_s = time.monotonic()
    while driver.stdout.readline().split() != ["alive", str(num_alive)]:
        assert time.monotonic() - began_s < 30
    return time.monotonic() - began_s


def test_a_driver_sees_nodes_die_and_come_and_nothing_stays_behind(start_driver):
    with ray_nodes([Node(cpus=1), Node(cpus=1, gpus=2)]) as cluster:
        driver = start_driver(cluster)
        assert [gpus for gpus, _ in json.loads(driver.stdout.readline())] in ([[0], [1]], [[1], [0]])
        assert len(cluster.nodes[1].actors()) == len(cluster.actors()) == 2
        assert seconds_until(driver, 2) < 5
        family = cluster.nodes[1].family()
        cluster.kill(cluster.nodes[1])
        assert not [process for process in family if process.is_running()]
        assert seconds_until(driver, 1) < 15
        cluster.add(Node(cpus=1))
        assert seconds_until(driver, 2) < 15
        cluster.stop(cluster.nodes[1])
        assert seconds_until(driver, 1) < 20
        cluster.cont(cluster.nodes[1])
        folder = cluster.folder
        everything = [process for node in cluster.nodes for process in node.family()]
        assert len(everything) > 6
    assert not folder.exists()
    assert not [process for process in everything if process.is_running()]
    assert not [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]


def test_a_dashboard_and_metrics_are_there_when_asked_for():
    with ray_nodes([Node(cpus=1)], dashboard=True) as cluster:
        with urllib.request.urlopen(f"{cluster.dashboard}/api/version", timeout=10) as answer:
            assert b"ray_version" in answer.read()
        with urllib.request.urlopen(cluster.metrics, timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.skipif(not can_partition(), reason="needs root and network namespaces")
def test_a_node_apart_can_be_cut_off(start_driver):
    with ray_nodes([Node(cpus=1, gpus=2), Node(cpus=1, apart=True)]) as cluster:
        driver = start_driver(cluster)
        driver.stdout.readline()
        assert seconds_until(driver, 2) < 5
        cluster.cut(cluster.nodes[1])
        assert seconds_until(driver, 1) < 20
        assert cluster.nodes[1].process.is_running()
