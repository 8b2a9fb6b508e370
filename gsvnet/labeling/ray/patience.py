"""How long an actor may take: for a shard, for a sign of life, to come up."""

from __future__ import annotations

import time

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray.fleet import Fleet, HiredActor
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.view import ClusterView


def overdue(actor: HiredActor, options: RayOptions) -> str | None:
    """What an actor has taken too long for, in words; None: nothing."""
    now_s = time.monotonic()
    if actor.running is not None:
        if now_s - actor.running_since_s > options.shard_timeout_s:
            return f"ran longer than --shard-timeout-s {options.shard_timeout_s:g}"
        if actor.frames_answer is not None and now_s - actor.frames_asked_s > options.silence_s:
            return f"gave no sign of life for {options.silence_s:g} s"
    is_starting = actor.report is None and actor.answer is not None and actor.placed_s is not None
    if is_starting and now_s - (actor.placed_s or 0) > options.actor_start_timeout_s:
        return f"was not ready --actor-start-timeout-s {options.actor_start_timeout_s:g} after it got a place"
    return None


def check_start(fleet: Fleet, options: RayOptions, view: ClusterView, *, was_up: bool) -> None:
    """Raise WorkerError when nobody found a place in time: what was asked for and what there is.

    was_up: some actor was up before, so that all nodes have gone since (spot capacity): that is waited for as long as
    an outage. Places that other jobs use are waited for, however long.
    """
    actors = fleet.actors
    if not actors or any(actor.placed_s for actor in actors):
        return
    waited_s = time.monotonic() - max(actor.asked_s for actor in actors)
    flag, limit_s = "--actor-start-timeout-s", options.actor_start_timeout_s
    if was_up and options.outage_timeout_s > limit_s:
        flag, limit_s = "--outage-timeout-s", options.outage_timeout_s
    if waited_s > limit_s and not view.are_places_taken():
        raise WorkerError(
            f"no actor came up within {flag} {limit_s:g}; asked for: {len(actors)} x {options.resources}; "
            f"the cluster has: {view.describe()}; "
            "lower --gpus-per-actor or --cpus-per-actor, or free or add nodes"
        )
