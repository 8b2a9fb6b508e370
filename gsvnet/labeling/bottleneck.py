"""What held a job up: which stage used the cores, or kept its own threads or the GPU at work, and what would help.

A worker's stages run at once: one thread decodes, one writes, a pool of threads makes rows (upsample, smooth, encode)
and on a CPU runs the networks too; a GPU runs them for the writing thread. All share the worker's cores. So there are
two ways to be the limit: the cores are busy, and a stage uses most of them; or cores are left over, and one stage's own
threads are busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ("decode", "segment", "upsample", "smooth", "encode", "write")
BUSY_CORES = 0.9  # from this share on the cores are the limit
BUSY_STAGE = 0.7  # below this share no stage is: workers waited for work, or shards are short

_POOLED = {  # share a pool of threads
    "cpu": ("segment", "upsample", "smooth", "encode"),
    "cuda": ("upsample", "smooth", "encode"),
}
_ADVICE = {  # (the cores are the limit, stage) -> what helps
    (True, "decode"): "more cores",
    (True, "segment"): "--precision bf16 where the processor has it, or more cores",
    (True, "upsample"): "a smaller --mask-size, or more cores",
    (True, "smooth"): "a smaller --smooth or --mask-size, or more cores",
    (True, "encode"): "a smaller --mask-size, or more cores",
    (True, "write"): "more cores",
    (False, "decode"): "more --cpus-per-actor",
    (False, "segment"): "more GPUs",
    (False, "upsample"): "more --cpus-per-actor, or a smaller --mask-size",
    (False, "smooth"): "more --cpus-per-actor, or a smaller --smooth or --mask-size",
    (False, "encode"): "more --cpus-per-actor, or a smaller --mask-size",
    (False, "write"): "a faster disk for --spool-dir",
}
_FEWER_KEYFRAMES = {True: "a longer --keyframe-interval, ", False: "a longer --keyframe-interval, or "}


@dataclass(frozen=True, kw_only=True)
class Load:
    """How busy the workers were while they had a shard. All are shares, 0..1 but for rounding.

    cores: of the workers' cores. by_stage: of the same cores, what each stage used; they add up to `cores`.
    at_work: of the time, how long each stage's own threads (on a GPU, for segment: the GPU) were at work.
    """

    cores: float
    by_stage: dict[str, float]
    at_work: dict[str, float]

    @property
    def cores_limit(self) -> bool:
        """The cores, which all stages share, were busy."""
        return self.cores >= BUSY_CORES

    @property
    def limit(self) -> str:
        """The stage that held up the others; "" before any shard."""
        shares = self.by_stage if self.cores_limit else self.at_work
        return max(shares, key=lambda stage: shares[stage], default="")

    @property
    def limit_share(self) -> float:
        """How much of the cores, or else of its own time, that stage was busy."""
        return (self.by_stage if self.cores_limit else self.at_work).get(self.limit, 0.0)


def measure_load(seconds: Mapping[str, float], core_seconds: Mapping[str, float], *, threads: int, device: str) -> Load:
    """The load of workers with `threads` cores each, whose networks run on `device`.

    seconds, core_seconds: sums over shards as in ShardResult. What the whole process used beyond its known stages
    belongs to segment: torch's own threads.
    """
    total = seconds.get("total", 0.0)
    if total <= 0:
        return Load(cores=0.0, by_stage={}, at_work={})
    stages = [stage for stage in STAGES if stage != "smooth" or stage in seconds]  # most jobs do not smooth
    used = {stage: core_seconds.get(stage, 0.0) for stage in stages}
    used["segment"] += max(0.0, core_seconds.get("total", 0.0) - sum(used.values()))
    by_stage = {stage: round(used[stage] / (total * threads), 4) for stage in stages}
    pooled = _POOLED["cuda" if device == "cuda" else "cpu"]
    at_work = {s: round(seconds.get(s, 0.0) / (total * (threads if s in pooled else 1)), 4) for s in stages}
    return Load(cores=round(sum(by_stage.values()), 4), by_stage=by_stage, at_work=at_work)


def describe_load(load: Load, *, device: str, basis: str = "keyframe") -> dict[str, str]:
    """Two lines for people: `busy`, the shares; `limit`, the bottleneck and what would help.

    basis: of the network's labels, see FrameNeeds: fewer keyframes make only those faster that have some.
    """
    if not load.limit:
        return {}
    parts = load.by_stage if load.cores_limit else load.at_work
    shares = " · ".join(f"{stage} {100 * share:.0f} %" for stage, share in parts.items())
    if load.cores_limit:
        return {
            "busy": f"cores {100 * load.cores:.0f} %: {shares}",
            "limit": f"the cores, mostly for {load.limit}; faster with {_advise(True, load.limit, basis)}",
        }
    if stage := _busy_stage(load, device):
        on_cores = device == "cpu" and stage == "segment"  # others may use the cores, too
        limit = f"{stage}; faster with {_advise(on_cores, stage, basis)}"
    else:
        limit = "no stage; faster with longer --shard-seconds" + ", or --gpus-per-actor 0.5" * (device == "cuda")
    return {"busy": f"{shares} (cores {100 * load.cores:.0f} %)", "limit": limit}


def _advise(cores_limit: bool, stage: str, basis: str) -> str:
    fewer_keyframes = _FEWER_KEYFRAMES[cores_limit] if stage == "segment" and basis == "keyframe" else ""
    return fewer_keyframes + _ADVICE[cores_limit, stage]


def _busy_stage(load: Load, device: str) -> str:
    """The stage that kept its threads at work; of stages that did so together, the largest; "" where none did."""
    pooled = {s: load.at_work[s] for s in _POOLED["cuda" if device == "cuda" else "cpu"] if s in load.at_work}
    if load.limit_share >= BUSY_STAGE:
        return load.limit
    return max(pooled, key=lambda stage: pooled[stage]) if sum(pooled.values()) >= BUSY_STAGE else ""
