"""The cluster as its head tells it: nodes, places, and whether the head itself answers."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import ray

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray.cluster import count_places, describe_nodes
from gsvnet.labeling.ray.options import RayOptions

LOOK_EVERY_S = 5.0
KNOCK_TIMEOUT_S = 3.0
TRUST_S = 0.5  # how long an answer is taken to hold
# Ray ends the process after this time without its head (GCS); we say why before it does.
_RAY_GIVES_UP_S = float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s") or 60)  # noqa: SIM112
HEAD_TIMEOUT_S = 0.75 * _RAY_GIVES_UP_S


class ClusterView:
    """What is known of the cluster, looked at every few seconds: calls to a head that is gone do not return.

    is_reachable: whether the head answered when last asked. While it does not, all else is as it was.
    """

    def __init__(self, options: RayOptions) -> None:
        self.is_reachable = True
        self.own_node_id: str = ray.get_runtime_context().get_node_id()
        self._options = options
        self._address: str = ray.get_runtime_context().gcs_address
        self._nodes: list[dict[str, Any]] = ray.nodes()
        self._knocked_s = self._answered_s = self._looked_s = time.monotonic()

    def check_head(self) -> None:
        """Ask the head for a sign of life every few seconds. Raises WorkerError when it gave none for too long."""
        if time.monotonic() - self._knocked_s >= LOOK_EVERY_S:
            self.answers()
        if time.monotonic() - self._answered_s > HEAD_TIMEOUT_S:
            raise WorkerError(
                f"the head of the Ray cluster at {self._address} does not answer for {HEAD_TIMEOUT_S:g} s; "
                "what was labeled is kept, the same command goes on once the cluster is up"
            )

    def count_places(self) -> int:
        """How many actors fit on the nodes, were they empty."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._look()
        return count_places(self._nodes, self._options)

    def alive_nodes(self) -> set[str]:
        """Ids of the nodes that are alive, as the head knows now: seconds to a minute after a node died."""
        self._look()
        return {node["NodeID"] for node in self._nodes if node["Alive"]}

    def are_places_taken(self) -> bool:
        """Whether actors of this size fit on the cluster but find no room now: others use it."""
        if self.count_places() == 0 or not self.answers():
            return False
        free = ray.available_resources()
        options = self._options
        return free.get("CPU", 0) < options.cpus_per_actor or free.get("GPU", 0) < (options.gpus_per_actor or 0)

    def describe(self) -> str:
        """Nodes that are alive with their CPUs and GPUs, in words."""
        self._look()
        return describe_nodes(self._nodes)

    def answers(self) -> bool:
        """Whether the head accepts connections; asked before every call to it, which would not return."""
        if time.monotonic() - self._knocked_s >= TRUST_S:
            host, _, port = self._address.rpartition(":")
            self.is_reachable = _accepts(host.strip("[]"), int(port))
            self._knocked_s = time.monotonic()
            if self.is_reachable:
                self._answered_s = self._knocked_s
        return self.is_reachable

    def _look(self) -> None:
        if self.answers():
            self._nodes, self._looked_s = ray.nodes(), time.monotonic()


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=KNOCK_TIMEOUT_S).close()
    except OSError:
        return False
    return True
