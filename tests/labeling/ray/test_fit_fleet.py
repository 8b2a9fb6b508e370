"""Which actors are let go when there are more than shards. Stand-ins for the fleet and the cluster; no Ray."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import gsvnet.labeling.ray.loop as loop
from gsvnet.labeling.ray.fleet import HiredActor
from gsvnet.labeling.ray.options import RayOptions


def test_of_idle_actors_those_that_are_not_up_go_first(monkeypatch):
    starting, up = (HiredActor(number=number, handle=None, asked_s=0.0, answer=object()) for number in (0, 1))
    up.report, up.answer = object(), None
    gone = []
    fleet = SimpleNamespace(
        actors=[starting, up], dismiss=lambda actor, kill: (fleet.actors.remove(actor), gone.append(actor))
    )
    schedule = SimpleNamespace(num_unfinished=1, is_exhausted=True)
    stop = threading.Event()
    view = SimpleNamespace(answers=lambda: True, is_reachable=True)
    monkeypatch.setattr(loop, "ClusterView", lambda options: view)
    driver = loop._Driver(
        schedule=schedule, fleet=fleet, options=RayOptions(num_actors=2), model_hash=None, stop=stop, cut=stop
    )
    driver._fit_fleet()
    assert gone == [starting]
    assert fleet.actors == [up]
