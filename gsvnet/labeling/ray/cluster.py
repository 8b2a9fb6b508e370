"""Ray up and down: join the cluster that RAY_ADDRESS names, or start a quiet one here; and what fits on it."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from gsvnet.errors import ConfigError, WorkerError
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.process import child_processes

OBJECT_STORE_BYTES = 150_000_000  # holds the weights; frames never enter it
JOIN_TIMEOUT_S = 10.0
_TOKEN = secrets.token_hex(32)  # of every cluster that this process starts; Ray reads it once per process
_STARTS, _GAVE_UP = 2, "timed out during startup"
_OF_RAY = re.compile(r"[/\\]ray[/\\]|raylet|gcs_server")
_QUIET_LOGGERS = ("ray._private.authentication.authentication_token_setup", "ray._private.worker")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The Ray cluster in use. started_here: it lives and ends with this process."""

    started_here: bool

    @property
    def num_gpus(self) -> float:
        """GPUs of all nodes."""
        return _total(ray.nodes(), "GPU")

    def fit(self, options: RayOptions) -> tuple[RayOptions, int]:
        """The options with their defaults settled, and the number of actors that this means now (at least 1).

        Raises ConfigError where not even one actor fits on a cluster that cannot grow.
        """
        nodes = ray.nodes()
        options = resolve_options(options, nodes)
        places = count_places(nodes, options)
        if places == 0 and self.started_here:
            raise ConfigError(
                f"one actor needs {options.resources}, this machine has {describe_nodes(nodes)}; "
                "lower --gpus-per-actor or --cpus-per-actor, or pass --device cpu"
            )
        return options, options.num_actors or max(1, places)


@contextmanager
def connect(
    *,
    min_cpus: int = 1,
    num_gpus: int | None = None,
    object_store_bytes: int = OBJECT_STORE_BYTES,
    verbose: bool = False,
) -> Iterator[Cluster]:
    """The cluster in use: the one connected already, else the one at RAY_ADDRESS (which `ray job submit` sets), else a
    new one on this machine.

    min_cpus: what a local cluster claims at least, so that an actor fits on a small machine. num_gpus: None detects.
    verbose: show Ray's own log and the workers' output. Only what was started or joined here is left again.
    Raises ConfigError when the cluster cannot be reached, WorkerError when one does not start here.
    """
    if ray.is_initialized():
        yield Cluster(started_here=False)
    elif (address := os.environ.get("RAY_ADDRESS") or "local") != "local":
        _join(address, verbose=verbose)
        try:
            yield Cluster(started_here=False)
        finally:
            ray.shutdown()
    else:
        with _local_cluster(min_cpus, num_gpus, object_store_bytes, verbose=verbose):
            yield Cluster(started_here=True)


def resolve_options(options: RayOptions, nodes: Sequence[dict[str, Any]]) -> RayOptions:
    """Options with `gpus_per_actor` settled: as given, else 1 where a node has a GPU or CUDA is asked for, else 0."""
    if options.gpus_per_actor is not None:
        return options
    wants_gpu = options.device == "cuda" or (options.device == "auto" and _total(nodes, "GPU") > 0)
    return replace(options, gpus_per_actor=1.0 if wants_gpu else 0.0)


def count_places(nodes: Sequence[dict[str, Any]], options: RayOptions) -> int:
    """How many actors fit on the nodes (`ray.nodes()`) that are alive, were they empty."""
    places = 0
    for resources in (node["Resources"] for node in nodes if node["Alive"]):
        fits = int(resources.get("CPU", 0) / options.cpus_per_actor)
        gpus, share = resources.get("GPU", 0), options.gpus_per_actor or 0
        if share:
            fits = min(fits, int(gpus / share) if share >= 1 else int(gpus) * int(1 / share + 1e-9))
        places += fits
    return places


def describe_nodes(nodes: Sequence[dict[str, Any]]) -> str:
    """Nodes that are alive with their CPUs and GPUs, in words."""
    num_alive = sum(bool(node["Alive"]) for node in nodes)
    return f"{num_alive} node(s), {_total(nodes, 'GPU'):g} GPU, {_total(nodes, 'CPU'):g} CPU"


def _total(nodes: Sequence[dict[str, Any]], resource: str) -> float:
    return sum(node["Resources"].get(resource, 0) for node in nodes if node["Alive"])


def _join(address: str, *, verbose: bool) -> None:
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=verbose, logging_level=logging.INFO if verbose else logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"cannot join the Ray cluster at RAY_ADDRESS={address}: {str(error).splitlines()[0]}; "
            "is it up? Unset RAY_ADDRESS to work on this machine alone"
        ) from error


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at host:port (`ray.init` was seen to wait there for more than ten minutes)."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=JOIN_TIMEOUT_S).close()


@contextmanager
def _local_cluster(min_cpus: int, num_gpus: int | None, object_store_bytes: int, *, verbose: bool) -> Iterator[None]:
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Else Ray writes ~/.ray/auth_token, which turns authentication on for every later `ray start` of this user.
        variables["RAY_AUTH_TOKEN"] = _TOKEN
    own_folder = None if "RAY_TMPDIR" in os.environ else tempfile.mkdtemp(prefix="gsv-", dir="/tmp")
    with _environment(variables), _hushed(verbose=verbose):
        try:
            _start(
                num_cpus=max(min_cpus, _usable_cpus()),
                num_gpus=num_gpus,
                object_store_memory=object_store_bytes,
                include_dashboard=False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.WARNING,
                _temp_dir=own_folder,
            )
            yield
        finally:
            ray.shutdown()
            if own_folder is not None:
                shutil.rmtree(own_folder, ignore_errors=True)


def _start(**options: Any) -> None:
    """Start a cluster here; once more where Ray, which waits for 30 s, gave up: the machine is busy.

    What the first try left running is ended. Raises WorkerError where the second gives up too.
    """
    for attempt in range(1, _STARTS + 1):
        before = child_processes()
        try:
            ray.init(address="local", **options)
            return
        except Exception as error:  # Ray raises it as such
            if _GAVE_UP not in str(error):
                raise
            for pid, command in child_processes().items():
                if pid not in before and _OF_RAY.search(command):  # other threads may start processes too
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            ray.shutdown()
            if attempt == _STARTS:
                said = f"Ray did not start here within 30 s, {_STARTS} times"
                raise WorkerError(f"{said}; is the machine overloaded? Try --no-ray") from error


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """The variables set where they are not; afterwards they, and what Ray set meanwhile, are gone again."""
    before = dict(os.environ)
    os.environ.update(variables | before)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            if name.startswith("RAY_"):
                del os.environ[name]


@contextmanager
def _hushed(*, verbose: bool) -> Iterator[None]:
    """Ray's notices at the start of a local cluster held back."""
    loggers = [] if verbose else [logging.getLogger(name) for name in _QUIET_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _usable_cpus() -> int:
    """CPUs that this process may use: its affinity, and the container's quota (cgroup v2)."""
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return num_cpus
    return num_cpus if quota == "max" else max(1, min(num_cpus, math.ceil(int(quota) / int(period))))
