"""Ray clusters of several nodes on this machine, for tests: each node is a `ray start` of its own, and may die.

    with ray_nodes([Node(cpus=2), Node(cpus=2, gpus=2)]) as cluster:
        subprocess.run([...], env=cluster.environment)   # a driver; RAY_ADDRESS is set
        cluster.kill(cluster.nodes[1])

The first node is the head. GPUs are only counted: no device is behind them. Health checks are so quick that a frozen
node is given up after about four seconds; a production cluster takes a minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.namespaces import Network
from tests.s3_servers import free_ports

START_S = 90.0
OBJECT_STORE_BYTES = 80_000_000
QUICK_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node to start. apart: in a network namespace of its own, so that it can be cut off (root only)."""

    cpus: int = 1
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False


@dataclass(eq=False)
class RunningNode:
    """A node that was started. process: `ray start --block`, the ancestor of all that belongs to the node."""

    node: Node
    ip: str
    process: psutil.Popen
    namespace: str | None = None

    def family(self) -> list[psutil.Process]:
        """All processes of the node, `ray start` first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        return []

    def actors(self, name: str = "ShardActor") -> list[psutil.Process]:
        """Processes of the node's actors of a class."""
        return [process for process in self.family() if _title(process).startswith(f"ray::{name}")]


class RayCluster:
    """Nodes that are up. Made by `ray_nodes`.

    address: for RAY_ADDRESS. environment: of a process that joins. dashboard, metrics: URLs, "" where not asked for.
    """

    def __init__(self, folder: Path, *, ip: str, network: Network | None, dashboard: bool, checks: Mapping) -> None:
        self.folder, self.ip, self.network, self.nodes = folder, ip, network, []
        self._checks, self._frozen = checks, []
        port, self._client_port, dashboard_port, metrics_port = free_ports(4, ip)
        self.address = f"{ip}:{port}"
        self.dashboard = f"http://{ip}:{dashboard_port}" if dashboard else ""
        self.metrics = f"http://{ip}:{metrics_port}/metrics" if dashboard else ""
        (folder / "home").mkdir()
        clean = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        isolated = {
            "HOME": str(folder / "home"),
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "OMP_NUM_THREADS": "1",
        }
        self._node_environment = clean | isolated
        self.environment = self._node_environment | {"RAY_ADDRESS": self.address}

    def add(self, node: Node) -> RunningNode:
        """Start one more node and wait until it belongs to the cluster."""
        is_head = not self.nodes
        ip, namespace = self.network.add() if self.network and node.apart else (self.ip, None)
        log = self.folder / f"node{len(list(self.folder.glob('node*.log')))}.log"
        with log.open("w") as output:
            process = psutil.Popen(
                [*_inside(namespace), *self._command(node, ip, is_head=is_head)],
                env=self._node_environment | dict(node.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = RunningNode(node, ip, process, namespace)
        self.nodes.append(running)
        limit_s = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None or time.monotonic() > limit_s:
                raise RuntimeError(f"a Ray node did not start:\n{log.read_text()}")
            time.sleep(0.05)
        return running

    def _command(self, node: Node, ip: str, *, is_head: bool) -> list[str]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--node-ip-address={ip}"]
        command += [f"--num-cpus={node.cpus}", f"--num-gpus={node.gpus}", f"--resources={json.dumps(node.resources)}"]
        command += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--dashboard-agent-listen-port=0"]
        if not is_head:
            return [*command, f"--address={self.address}"]
        command += ["--head", f"--port={self.address.rpartition(':')[2]}"]
        command += [f"--ray-client-server-port={self._client_port}"]
        command += [f"--system-config={json.dumps(dict(self._checks))}", f"--include-dashboard={bool(self.dashboard)}"]
        if self.dashboard:
            port, metrics = self.dashboard.rpartition(":")[2], self.metrics.rpartition(":")[2].partition("/")[0]
            command += [f"--dashboard-host={ip}", f"--dashboard-port={port}", f"--metrics-export-port={metrics}"]
        return command

    def kill(self, node: RunningNode) -> None:
        """As if the machine lost its power: SIGKILL to all processes of the node at once."""
        self._freeze(node)
        _end(node.family())
        self._forget(node)

    def remove(self, node: RunningNode) -> None:
        """As a scheduler takes a machine back: SIGTERM, which Ray hears."""
        family = node.family()
        node.process.terminate()
        psutil.wait_procs([node.process], timeout=20)
        _end(family)
        self._forget(node)

    def stop(self, node: RunningNode) -> None:
        """SIGSTOP to all processes of the node; it hangs until `cont`."""
        self._frozen += self._freeze(node)

    def cont(self, node: RunningNode) -> None:
        """SIGCONT to what `stop` froze."""
        for process in node.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def cut(self, node: RunningNode) -> None:
        """Take the node's network away. Its processes work on."""
        assert self.network is not None
        assert node.namespace is not None, "only a node that is `apart` can be cut off"
        self.network.cut(node.namespace)

    def mend(self, node: RunningNode) -> None:
        """Give the node its network back."""
        assert self.network is not None
        assert node.namespace is not None
        self.network.mend(node.namespace)

    def actors(self, name: str = "ShardActor") -> list[psutil.Process]:
        """Processes of all actors of a class."""
        return [process for node in self.nodes for process in node.actors(name)]

    def close(self) -> None:
        """End every process of every node and remove the folder."""
        families = [process for node in self.nodes for process in (self._freeze(node) or node.family())]
        _end(families + self._frozen)
        self.nodes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _freeze(self, node: RunningNode) -> list[psutil.Process]:
        """Stop the node's processes, parents first, until no new one appears; the stopped ones."""
        stopped: set[psutil.Process] = set()
        while new := [process for process in node.family() if process not in stopped]:
            for process in new:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped.update(new)
        return list(stopped)

    def _forget(self, node: RunningNode) -> None:
        if node in self.nodes:
            self.nodes.remove(node)


@contextlib.contextmanager
def ray_nodes(
    nodes: Sequence[Node],
    *,
    dashboard: bool = False,
    checks: Mapping[str, int] = QUICK_CHECKS,
    network: Network | None = None,
) -> Iterator[RayCluster]:
    """A cluster of these nodes, the head first; all of it is gone afterwards. checks: Ray's system configuration.

    dashboard: with the REST API for `ray job submit` and a metrics endpoint, for several seconds and 500 MB more.
    network: of nodes that are `apart`, where something else than the cluster must be reached on it; else one is made.
    """
    with contextlib.ExitStack() as stack:
        if network is None and any(node.apart for node in nodes):
            network = stack.enter_context(Network())
        folder = Path(tempfile.mkdtemp(prefix="gsv-", dir="/tmp"))  # sockets need short paths
        ip = network.ip if network else "127.0.0.1"
        cluster = RayCluster(folder, ip=ip, network=network, dashboard=dashboard, checks=checks)
        stack.callback(cluster.close)
        for node in nodes:
            cluster.add(node)
        yield cluster


def _end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive, f"still there after SIGKILL: {alive}"


def _inside(namespace: str | None) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
