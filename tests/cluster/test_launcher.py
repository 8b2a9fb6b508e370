"""cluster/launcher-aws.yaml against the schema that Ray itself brings, and its waiting times."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import ray

from gsvnet.labeling.limits import LimitsConfig

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def schema():
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def test_the_file_keeps_rays_schema(launcher, schema):
    jsonschema.validate(launcher, schema)


def test_rays_schema_finds_a_slip(launcher, schema):
    for key, value in (
        ("max_worker", 3),
        ("provider", {"region": "us-east-1"}),
        ("head_start_ray_commands", "ray stop"),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(copy.deepcopy(launcher) | {key: value}, schema)


def test_a_job_that_is_stopped_may_drain(launcher):
    (wait_s,) = re.findall(
        r"RAY_JOB_STOP_WAIT_TIME_S=(\d+) ray start --head", " ".join(launcher["head_start_ray_commands"])
    )
    assert int(wait_s) > LimitsConfig().drain_seconds


def test_gpus_are_on_spot_workers_alone(launcher):
    types = launcher["available_node_types"]
    assert types[launcher["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu"]["max_workers"] == launcher["max_workers"]


def test_the_head_may_do_more_than_a_worker(launcher):
    profiles = [kind["node_config"]["IamInstanceProfile"]["Name"] for kind in launcher["available_node_types"].values()]
    assert sorted(profiles) == ["gsvnet-head", "gsvnet-worker"]


def test_every_node_asks_for_the_token_of_who_launched_it(launcher, cluster_dir):
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
    assert launcher["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}  # Ray's default for its user
    assert "useradd --create-home --uid 1000 ray" in (cluster_dir / "Dockerfile").read_text()


def test_the_dashboard_is_not_open_to_the_network(launcher):
    assert "--dashboard-host=127.0.0.1" in " ".join(launcher["head_start_ray_commands"])
