from __future__ import annotations

import pytest

from gsvnet.errors import WorkerError
from gsvnet.labeling import forecast as forecasting
from gsvnet.labeling.forecast import make_trial
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.ray import forecast
from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.options import RayOptions
from gsvnet.labeling.survey import SizeCount
from gsvnet.models.checkpoints import load_model


@pytest.fixture(scope="module")
def cluster():
    with connect(min_cpus=2, num_gpus=0, object_store_bytes=80_000_000) as cluster:
        yield cluster


@pytest.fixture
def trial(label_config, drive, tiny_model):
    plan = plan_video(str(drive), rule=PlanRule(interval=5, shard_seconds=60.0, shard_frames=12))
    sizes = {(72, 96): SizeCount(videos=1, frames=60, shards=5, sample=plan, sample_uri=str(drive))}
    return make_trial(label_config(), sizes, load_model(str(tiny_model)), device="cpu")


@pytest.mark.slow
def test_an_actors_speed_is_measured_in_a_task_with_its_resources(cluster, trial, tiny_model, monkeypatch):
    monkeypatch.setattr(forecasting, "MEASURE_S", 0.2)
    model = load_model(str(tiny_model))
    (speed,) = forecast.measure_on_ray(trial, model, RayOptions(gpus_per_actor=0.0, cpus_per_actor=1))
    assert (speed.height, speed.width) == (72, 96)
    assert speed.frames_per_s > 0


def test_a_cluster_without_a_place_is_named_and_so_is_the_way_out(cluster, trial, monkeypatch):
    monkeypatch.setattr(forecast, "MEASURING_S", 1.0)
    options = RayOptions(gpus_per_actor=1.0, actor_start_timeout_s=1.0)
    with pytest.raises(WorkerError) as refused:
        forecast.measure_on_ray(trial, "weights", options)
    for words in ("no answer within 2 s", "(1 GPU, 2 CPU)", "--no-calibrate plans without it"):
        assert words in str(refused.value)
