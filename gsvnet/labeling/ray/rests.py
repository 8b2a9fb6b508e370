"""Outages: actors that meet one rest and try again; the job waits, but not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

from gsvnet.errors import GsvnetError, StoreUnavailable
from gsvnet.labeling.ray.events import ActorResting
from gsvnet.labeling.ray.fleet import HiredActor
from gsvnet.labeling.tasks import Raised

FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
QUIET_S = 60.0  # without anyone resting, then an outage is over


class Rests:
    """When actors try again after storage did not answer or a spool disk was full.

    timeout_s: how long nothing may get done anywhere while such things happen.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._begun_s: float | None = None  # since when nothing got done and somebody rested
        self._met_s = 0.0  # when somebody met it last
        self._last_s = -QUIET_S  # end of the latest rest
        self._last: Raised | None = None

    def begin(self, actor: HiredActor, raised: Raised) -> ActorResting | None:
        """Let an actor rest, twice as long each time until a shard of it finishes; the event where an outage begins."""
        now_s = time.monotonic()
        actor.rest_s = min(LONGEST_REST_S, 2 * actor.rest_s) if actor.rest_s else FIRST_REST_S
        seconds = actor.rest_s * random.uniform(0.5, 1.0)  # not all at once at a store that comes back
        actor.rests_until_s = now_s + seconds
        is_new = now_s - self._last_s > QUIET_S
        self._last_s, self._last = max(self._last_s, actor.rests_until_s), raised
        self._begun_s, self._met_s = self._begun_s or now_s, now_s
        if not is_new:
            return None
        reason = f"{raised.error}: {raised.message}"
        return ActorResting(number=actor.number, report=actor.report, reason=reason, seconds=seconds)

    def note_finished(self, actor: HiredActor) -> None:
        """A shard got done."""
        actor.rest_s = actor.rests_until_s = 0.0
        self._begun_s = None

    def check(self, running_since_s: Iterable[float]) -> None:
        """Raise the latest error when nothing got done for too long.

        running_since_s: of the running shards. Wait for one that may still get done: it began before the outage, or
        after anybody met it last.
        """
        if self._begun_s is None or time.monotonic() - self._begun_s <= self._timeout_s or self._last is None:
            return
        if all(self._begun_s < since_s <= self._met_s for since_s in running_since_s):
            error: GsvnetError = self._last.original or StoreUnavailable(self._last.message)
            error.add_note(f"nothing got done for --outage-timeout-s {self._timeout_s:g}; the same command goes on")
            raise error
