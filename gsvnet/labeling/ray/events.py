"""What the driver loop reports, in the order in which it happens. Free of Ray, so that progress can read it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsvnet.labeling.ray.same_code import UNKNOWN_CODE, Code
from gsvnet.labeling.tasks import Device, ShardFailure, ShardResult


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    """What an actor says of itself before it gets work.

    device_name: the GPU's name, or "cpu". code: what it runs. gpu: indices of the GPUs that Ray gave it on its node
    ("0", "0,1"), or "". notes: of the worker.
    """

    model_hash: str
    device: Device
    device_name: str
    node_id: str
    node_ip: str
    pid: int
    gpu: str = ""
    notes: tuple[str, ...] = ()
    code: Code = UNKNOWN_CODE


@dataclass(frozen=True, kw_only=True)
class ActorUp:
    """An actor built its model and gets work from now on. number: counts actors of the job from 0."""

    number: int
    report: ActorReport


@dataclass(frozen=True, kw_only=True)
class ActorLost:
    """An actor died, hung or was given up. report: None if it never came up. with_its_node: the node left too."""

    number: int
    report: ActorReport | None
    reason: str
    with_its_node: bool


@dataclass(frozen=True, kw_only=True)
class ShardRetried:
    """A shard went wrong and will be tried again. attempts: tries so far. traceback: of the worker, "" if it died."""

    video_id: str
    shard_index: int
    attempts: int
    error: str
    message: str
    traceback: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class ActorResting:
    """An outage begins: storage does not answer an actor, or its spool disk is full; it tries again after `seconds`.

    Yielded once per outage, not for every actor and shard that it touches: the next one only after a quiet minute.
    """

    number: int
    report: ActorReport | None
    reason: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """A picture of the moment, about once a second: shards waiting and running, actors up and starting.

    num_waiting: of those known so far. num_resting: of the actors up or starting, those that wait for storage or disk
    space. frames_running: frames labeled so far of the shards that run.
    """

    num_waiting: int
    num_running: int
    num_up: int
    num_starting: int
    num_resting: int = 0
    frames_running: int = 0


@dataclass(frozen=True, kw_only=True)
class Drained:
    """The job was stopped before its end. num_cut: shards that were still running after the time to drain."""

    num_cut: int


Event = ShardResult | ShardFailure | ActorUp | ActorLost | ActorResting | ShardRetried | FleetStatus | Drained
