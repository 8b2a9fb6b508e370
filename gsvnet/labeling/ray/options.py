"""How the cluster is used. Nothing here changes a label, `cpus_per_actor` (threads) aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gsvnet.errors import ConfigError

DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Actors, retries and time limits of one labeling job.

    num_actors: all are asked for at once, which is what an autoscaler reacts to: beyond the present places they wait
    for nodes that join. None follows the cluster: as many as fit on its nodes now, never more. gpus_per_actor:
    fractions allowed; None: 1 where the cluster has a GPU, else 0. cpus_per_actor: CPUs reserved, and threads, per
    actor. device: "auto" is CUDA for an actor that was given a GPU, which fails if it sees none. max_attempts: tries
    per shard. max_kills: of these, how many may end with the worker dead or stuck. max_replacements: actors that may
    be lost other than with their node before the job stops; None: 50, or 4 per place. shard_timeout_s: for one shard
    while it runs. silence_s: how long the process that runs a shard may give no sign of life. actor_start_timeout_s:
    until the first actor has a place, others that use the cluster aside, and until an actor that has one is ready.
    drain_s: how long running shards may finish after a stop. outage_timeout_s: how long nothing may get done because
    storage is down, spool disks are full, or all nodes have gone since an actor was up (for these at least
    actor_start_timeout_s). node_verdict_s: how long after its actor a node may be found dead, so that it is not the
    shard's fault.
    """

    num_actors: int | None = None
    gpus_per_actor: float | None = None
    cpus_per_actor: int = 2
    device: DeviceChoice = "auto"
    max_attempts: int = 3
    max_kills: int = 2
    max_replacements: int | None = None
    shard_timeout_s: float = 3600.0
    actor_start_timeout_s: float = 300.0
    drain_s: float = 60.0
    outage_timeout_s: float = 1800.0
    silence_s: float = 120.0
    node_verdict_s: float = 20.0

    def __post_init__(self) -> None:
        for name, least in (("num_actors", 1), ("cpus_per_actor", 1), ("max_attempts", 1), ("max_kills", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigError(f"{_flag(name)} is {value}; at least {least} is needed")
        for name in ("gpus_per_actor", "max_replacements", "drain_s", "node_verdict_s"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ConfigError(f"{_flag(name)} is {value}; it cannot be negative")
        for name in ("shard_timeout_s", "actor_start_timeout_s", "outage_timeout_s", "silence_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}; it must be positive")
        gpus = self.gpus_per_actor
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"--gpus-per-actor is {gpus}; above 1 only whole numbers are allowed")
        if gpus == 0 and self.device == "cuda":
            raise ConfigError("--device cuda with --gpus-per-actor 0: Ray hides the GPUs from such an actor")

    @property
    def resources(self) -> str:
        """What one actor asks for, in words."""
        return f"({self.gpus_per_actor or 0:g} GPU, {self.cpus_per_actor} CPU)"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
