"""How much may go wrong in a job, and how long things may take. Nothing here changes a label."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsvnet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Attempts, time limits and what still counts as success."""

    max_attempts: int = 3
    """Attempts per shard before _failed/ records it; at most two where it does not decode or takes down its worker."""

    max_failed_fraction: float = 0.0
    """Share of the shards that may fail, 0..1, while the job still exits with 0."""

    partial_ok: bool = False
    """Exit with 0 instead of 3 however many shards failed, for schedulers that repeat a job that exits otherwise."""

    shard_timeout_s: float = 3600.0
    """Longest time one shard may run before its actor is killed and the shard tried again."""

    drain_seconds: float = 60.0
    """How long running shards may finish after SIGTERM."""

    outage_timeout_s: float = 1800.0
    """How long storage may be down, every spool disk full, or every node gone before the job stops."""

    actor_start_timeout_s: float = 300.0
    """How long to wait for a place for the first actor (autoscalers are slow), and until one with a place is ready."""

    max_replacements: int | None = None
    """Actors that may be lost other than with their node before the job stops; default: 50, or 4 per place."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigError(f"--max-attempts {self.max_attempts}: at least 1")
        if not 0 <= self.max_failed_fraction <= 1:
            raise ConfigError(f"--max-failed-fraction {self.max_failed_fraction}: must be within 0..1")
        if self.max_replacements is not None and self.max_replacements < 0:
            raise ConfigError(f"--max-replacements {self.max_replacements}: at least 0")
        if not 0 <= self.drain_seconds < math.inf:
            raise ConfigError(f"--drain-seconds {self.drain_seconds}: must be finite and at least 0")
        for name in ("shard_timeout_s", "outage_timeout_s", "actor_start_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} {getattr(self, name)}: must be positive and finite")
