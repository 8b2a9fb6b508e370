"""What a run took of the cluster: actor time, idle time, the tail, mishaps. Counted from the events; free of Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gsvnet.labeling.ray.events import ActorLost, ActorResting, ActorUp, Event, FleetStatus, ShardRetried


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run took. Seconds are of wall time, summed over actors but for tail_s.

    actor_s: actors were up, from ready for work to gone; the start of an actor and planning are not in it. gpu_s: the
    same times the GPUs that an actor reserves. idle_s: of actor_s, without a shard. tail_s: from when the first actor
    found no more work to the end, to about a second. starts: actors that came up. actors_lost: died, hung or were
    given up, with their node or without. retries: attempts that went wrong and were charged to their shard. outages:
    times that storage did not answer or a spool disk was full, however many actors it made rest.
    """

    actor_s: float = 0.0
    gpu_s: float = 0.0
    idle_s: float = 0.0
    tail_s: float = 0.0
    starts: int = 0
    actors_lost: int = 0
    retries: int = 0
    outages: int = 0

    @property
    def idle_share(self) -> float:
        """Of the time that actors were up, the share without a shard; 0 before any was."""
        return self.idle_s / self.actor_s if self.actor_s else 0.0


class UsageMeter:
    """Adds up a `Usage` from every event of `run_shards`, in order. clock: seconds that never go back.

    Between two pictures of the fleet, about a second apart, everything is taken to stay as in the first.
    """

    def __init__(self, *, gpus_per_actor: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._gpus_per_actor, self._clock = gpus_per_actor, clock
        self._now = clock()
        self._actor_s = self._idle_s = 0.0
        self._num_up = self._num_running = 0
        self._shards_wait = False
        self._most_running = 0  # of the actors that are still there
        self._dry_since: float | None = None
        self._starts = self._lost = self._retries = self._outages = 0

    def observe(self, event: Event) -> None:
        """Hear of one event."""
        self._advance()
        match event:
            case ActorUp():
                self._starts += 1
                self._num_up += 1
                self._num_running += self._shards_wait  # the new actor is handed one at once
            case ActorLost():
                self._lost += 1
                self._lose(was_up=event.report is not None)
            case ShardRetried():
                self._retries += 1
            case ActorResting():
                self._outages += 1
            case FleetStatus():
                self._see(event)

    def usage(self) -> Usage:
        """What was taken until now."""
        self._advance()
        return Usage(
            actor_s=round(self._actor_s, 3),
            gpu_s=round(self._actor_s * self._gpus_per_actor, 3),
            idle_s=round(self._idle_s, 3),
            tail_s=0.0 if self._dry_since is None else round(self._now - self._dry_since, 3),
            starts=self._starts,
            actors_lost=self._lost,
            retries=self._retries,
            outages=self._outages,
        )

    def _advance(self) -> None:
        before, self._now = self._now, self._clock()
        self._actor_s += self._num_up * (self._now - before)
        self._idle_s += max(0, self._num_up - self._num_running) * (self._now - before)

    def _lose(self, *, was_up: bool) -> None:
        if was_up:
            self._num_up = max(0, self._num_up - 1)
            self._num_running = min(self._num_running, self._num_up)
            self._most_running = max(0, self._most_running - 1)

    def _see(self, status: FleetStatus) -> None:
        """An actor that goes dry is let go, so the tail shows as fewer shards running, not as idle actors."""
        self._num_up, self._num_running = status.num_up, status.num_running
        self._shards_wait = status.num_waiting > 0
        self._most_running = max(self._most_running, status.num_running)
        if status.num_running == self._most_running:
            self._dry_since = None
        elif self._dry_since is None:
            self._dry_since = self._now
