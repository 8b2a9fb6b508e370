"""How the last run of a job went, from `_report.json`: optional, and written by any version of the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsvnet.errors import CorruptLabels
from gsvnet.store.filesystem import StorageOptions
from gsvnet.store.json_object import read_json
from gsvnet.store.layout import derived_uri

_BUSY_STAGE = 0.7  # below this share no stage is busy enough to hold up the others


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the work. busy_s: seconds, summed over workers and threads. share: of the cores, or of its own time,
    whichever limited the run; 0..1."""

    name: str
    busy_s: float
    share: float


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What `_report.json` says; see `gsvnet.labeling.report.JobReport` for each figure.

    cores: share of the workers' cores that was busy. limited_by: "cores" or "threads". cost: None without a price.
    """

    model: str
    device: str
    precision: str
    num_actors: int
    frames: int
    wall_s: float
    frames_per_s: float
    times_realtime: float
    stages: tuple[Stage, ...]
    cores: float
    limit: str
    limited_by: str
    limit_share: float
    retries: int
    actors_lost: int
    outages: int
    gpu_hours: float
    cost: float | None
    exit_code: int

    @property
    def bottleneck(self) -> str:
        """What held the run up, in one sentence; "" where nothing was labeled."""
        if not self.limit:
            return ""
        share, cores = f"{100 * self.limit_share:.0f} %", f"{100 * self.cores:.0f} %"
        if self.limited_by == "cores":
            return f"The cores held the run up: {cores} of them were busy, most with {self.limit} ({share})."
        if self.limit_share >= _BUSY_STAGE:
            return f"{self.limit.capitalize()} held the run up: its own threads were at work {share} of the time."
        return f"No stage held the run up: the busiest, {self.limit}, was at work {share} of the time."


def read_run(out: str, storage_options: StorageOptions = None) -> RunFacts | None:
    """How the run went that ended last; None where there is no such file, or none that this version understands."""
    try:
        data = read_json(derived_uri(out, "_report.json"), storage_options)
        return None if data is None else _to_run(data)
    except (AttributeError, CorruptLabels, KeyError, OverflowError, TypeError, ValueError):
        return None


def _to_run(data: Mapping[str, Any]) -> RunFacts:
    load, usage, limited_by = data["load"], data["usage"], str(data["limited_by"])
    shares = load["by_stage" if limited_by == "cores" else "at_work"]
    stages = [
        Stage(name=str(name), busy_s=float(data["stage_s"].get(name, 0.0)), share=float(share))
        for name, share in shares.items()
    ]
    return RunFacts(
        model=str(data["model"]),
        device=str(data["device"]),
        precision=str(data["precision"]),
        num_actors=int(data["num_actors"]),
        frames=int(data["frames"]),
        wall_s=float(data["wall_s"]),
        frames_per_s=float(data["frames_per_s"]),
        times_realtime=float(data["times_realtime"]),
        stages=tuple(stages),
        cores=float(load["cores"]),
        limit=str(data["limit"]),
        limited_by=limited_by,
        limit_share=float(data["limit_share"]),
        retries=int(usage["retries"]),
        actors_lost=int(usage["actors_lost"]),
        outages=int(usage["outages"]),
        gpu_hours=float(data["gpu_hours"]),
        cost=None if data["cost"] is None else float(data["cost"]),
        exit_code=int(data["exit_code"]),
    )
