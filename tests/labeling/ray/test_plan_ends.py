from __future__ import annotations

import sys
import threading
import time

import pytest
import ray
from ray import cloudpickle

from gsvnet.labeling.feed import without_waiting
from gsvnet.labeling.plan import PlanRule
from gsvnet.labeling.planning import PlanRequest
from gsvnet.labeling.ray import plan as ray_plan
from gsvnet.labeling.ray.cluster import connect

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def sleep(request, uris, stored):
    time.sleep(600)


@pytest.mark.slow
def test_planning_in_a_thread_ends_before_the_cluster_is_left(monkeypatch):
    monkeypatch.setattr(ray_plan, "_plan_videos", sleep)
    request = PlanRequest(out=None, rule=PlanRule(interval=5, shard_seconds=60.0, shard_frames=12))
    with connect(min_cpus=2, object_store_bytes=80_000_000):
        feed = without_waiting(ray_plan.plan_on_ray(request, ["a.mp4"]), most=4)
        assert next(feed) is None
        time.sleep(3.0)
        feed.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "gsvnet-feed"]
    assert not ray.is_initialized()
