"""A node, the head, or the network to a node dies under a job on a cluster of several nodes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

import gsvnet
from tests.clusters import Node, ray_nodes
from tests.drivers import label_command
from tests.material import repeat_video
from tests.namespaces import can_partition
from tests.outputs import Visible, assert_equal_rows, rows_of, shards_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NUM_SHARDS = 72
WORKERS = [Node(cpus=0), Node(cpus=1), Node(cpus=1)]


class Job:
    """`gsvnet label` on a cluster, in a process of its own."""

    def __init__(self, cluster, config, log, *more):
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*label_command(config), *more], env=cluster.environment, stdout=output, stderr=output
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    @property
    def is_running(self):
        return self.process.poll() is None

    def finish(self, seconds=180):
        return self.process.wait(timeout=seconds), self.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def long_drive(drive, tmp_path_factory):
    """Long enough that something is left to do after the first shard was seen."""
    return repeat_video(drive, 6, tmp_path_factory.mktemp("long") / "long.mkv")


@pytest.fixture
def config(long_drive, label_config, tmp_path):
    return label_config(videos=(str(long_drive),), no_ray=False, spool_dir=str(tmp_path / "spool"), shard_frames=5)


@pytest.fixture(scope="module")
def expected(long_drive, tiny_model, tmp_path_factory):
    """All rows as an undisturbed run in one process labels them."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    usual = {"batch_chunks": 2, "cpus_per_actor": 1, "shard_frames": 5, "no_ray": True}
    config = gsvnet.LabelConfig(videos=(str(long_drive),), out=str(out), model=str(tiny_model), **usual)
    assert gsvnet.label(config).shards_in_output == NUM_SHARDS
    return rows_of(out)


def test_a_node_killed_costs_the_shards_on_it(expected, config, tmp_path):
    visible = Visible(config.out)
    with ray_nodes(WORKERS) as cluster, Job(cluster, config, tmp_path / "log") as job:
        wait_until(lambda: visible.look() >= 1 or not job.is_running)
        wait_until(lambda: cluster.nodes[1].actors() or cluster.nodes[2].actors() or not job.is_running)
        hit = next(node for node in cluster.nodes if node.actors())
        cluster.kill(hit)
        assert visible.look() < NUM_SHARDS
        code, log = job.finish()
    assert code == 0, log
    assert visible.look() == NUM_SHARDS
    assert_equal_rows(rows_of(config.out), expected)


def test_a_head_killed_ends_the_job_and_the_same_command_goes_on(expected, config, tmp_path):
    visible = Visible(config.out)
    with ray_nodes(WORKERS) as cluster, Job(cluster, config, tmp_path / "log") as job:
        wait_until(lambda: visible.look() >= 1 or not job.is_running)
        cluster.kill(cluster.nodes[0])
        killed_s = time.monotonic()
        code, log = job.finish()
        assert code != 0, log
        assert time.monotonic() - killed_s < 120  # Ray looks for its head for a minute; actors work on meanwhile
    assert 1 <= visible.look() <= NUM_SHARDS
    assert not (Path(config.out) / "_SUCCESS").exists()
    with ray_nodes(WORKERS) as cluster, Job(cluster, config, tmp_path / "log") as job:
        code, log = job.finish()
    assert code == 0, log
    assert visible.look() == NUM_SHARDS
    assert_equal_rows(rows_of(config.out), expected)


def test_a_frozen_node_is_given_up_and_its_late_work_changes_nothing(expected, config, tmp_path):
    visible = Visible(config.out)
    with ray_nodes(WORKERS) as cluster, Job(cluster, config, tmp_path / "log") as job:
        wait_until(lambda: visible.look() >= 1 or not job.is_running)
        hit = next(node for node in cluster.nodes if node.actors())
        cluster.stop(hit)
        time.sleep(8)
        cluster.cont(hit)
        code, log = job.finish()
    assert code == 0, log
    assert visible.look() == NUM_SHARDS
    assert_equal_rows(rows_of(config.out), expected)


@pytest.mark.skipif(not can_partition(), reason="needs root and network namespaces")
def test_an_actor_that_is_cut_off_works_on_and_loses_the_race(drive, label_config, tmp_path):
    """Both write the same shard to a disk that both see: one object, and it is never replaced."""
    video = repeat_video(drive, 8, tmp_path / "long.mkv")
    config = label_config(
        videos=(str(video),), no_ray=False, spool_dir=str(tmp_path / "spool"), shard_frames=20_000, num_actors=1
    )
    spools: set[str] = set()

    def look():
        spools.update(path.name for path in Path(config.spool_dir).glob(".gsvnet-*"))
        return len(spools)

    nodes = [Node(cpus=0), Node(cpus=1, apart=True), Node(cpus=1, apart=True)]
    with ray_nodes(nodes) as cluster, Job(cluster, config, tmp_path / "log") as job:
        wait_until(lambda: look() == 1 or not job.is_running)
        hit = next(node for node in cluster.nodes if node.actors())
        [zombie] = hit.actors()
        zombie.suspend()  # so that it is late for sure
        cluster.cut(hit)
        wait_until(lambda: look() == 2 or not job.is_running)
        zombie.resume()
        code, log = job.finish()
        assert code == 0, log
        [shard] = shards_of(config.out)
        first = (shard.stat().st_ino, shard.stat().st_mtime_ns)
        wait_until(lambda: not list(Path(config.spool_dir).glob(".gsvnet-*")))  # the zombie is done too
    assert (shard.stat().st_ino, shard.stat().st_mtime_ns) == first
    assert len(spools) == 2
    assert rows_of(config.out)["frame_index"].to_pylist() == list(range(8 * 60))


def test_a_job_that_is_told_to_stop_on_a_cluster_leaves_it_running(expected, config, tmp_path):
    visible = Visible(config.out)
    with ray_nodes(WORKERS[:2]) as cluster:
        with Job(cluster, config, tmp_path / "log") as job:
            wait_until(lambda: visible.look() >= 1 or not job.is_running)
            job.process.send_signal(signal.SIGTERM)
            code, log = job.finish()
            assert code == 1, log
        wait_until(lambda: not cluster.actors())
        assert 1 <= visible.look() < NUM_SHARDS
        with Job(cluster, config, tmp_path / "log") as job:
            code, log = job.finish()
    assert code == 0, log
    assert_equal_rows(rows_of(config.out), expected)
