"""How long the driver waits for places and shards: plain objects stand for actors, the fleet and the cluster."""

from __future__ import annotations

import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray import fleet, patience
from gsvnet.labeling.ray.fleet import Fleet, HiredActor
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.ray.patience import check_start, overdue

OPTIONS = RayOptions(actor_start_timeout_s=300.0, outage_timeout_s=1800.0)


def check(waited_s, *, was_up=False, places_taken=False, placed=False):
    now_s = time.monotonic()
    actor = SimpleNamespace(asked_s=now_s - waited_s, placed_s=now_s if placed else None)
    view = SimpleNamespace(are_places_taken=lambda: places_taken, describe=lambda: "1 node(s), 0 GPU, 2 CPU")
    check_start(SimpleNamespace(actors=[actor]), OPTIONS, view, was_up=was_up)


def test_the_first_actor_gets_the_time_to_start():
    check(299)
    with pytest.raises(WorkerError, match=r"no actor came up within --actor-start-timeout-s 300; asked for: 1 x"):
        check(301)


def test_nodes_that_have_all_gone_are_waited_for_as_long_as_an_outage():
    check(1799, was_up=True)
    with pytest.raises(WorkerError, match=r"no actor came up within --outage-timeout-s 1800"):
        check(1801, was_up=True)


def test_places_that_others_use_are_waited_for_however_long():
    check(10_000, places_taken=True)


def test_an_actor_that_has_a_place_is_no_longer_waited_for_here():
    check(10_000, placed=True)


def test_the_deadline_counts_only_while_a_shard_runs(hold_clock, monkeypatch, make_tasks):
    clock = hold_clock(fleet)
    monkeypatch.setattr(patience, "time", clock)
    options = RayOptions(shard_timeout_s=10.0)
    crew = Fleet(spec=Mock(), weights=None, options=options)
    actor = HiredActor(number=0, handle=Mock(), asked_s=0.0, answer=None)
    first, second = make_tasks(2)
    crew.hand(actor, first)
    crew.hand(actor, second)  # it waits while the first one runs
    clock.now = 9.0
    assert overdue(actor, options) is None
    assert crew.advance(actor) is first
    clock.now = 18.0
    assert overdue(actor, options) is None
    clock.now = 19.5
    assert overdue(actor, options) == "ran longer than --shard-timeout-s 10"
