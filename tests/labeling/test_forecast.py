from __future__ import annotations

import shutil

import pytest

from gsvnet.labeling import forecast as forecasting
from gsvnet.labeling.forecast import Speed, forecast, make_trial, measure_speeds
from gsvnet.labeling.plan import PlanRule
from gsvnet.labeling.planning import PlanRequest, plan_in_threads
from gsvnet.labeling.survey import SizeCount, Survey
from gsvnet.models.checkpoints import load_model
from gsvnet.store.job import write_settled


def speed(height, width, frames_per_s, label_bytes=100):
    return Speed(height=height, width=width, num_frames=100, seconds=100 / frames_per_s, label_bytes=label_bytes)


def predict(label_config, speeds, sizes, **changes):
    usual = {"device": "cuda", "num_actors": 4, "gpus_per_actor": 1.0, "start_s": 10.0}
    counts = {size: SizeCount(videos=1, frames=frames, shards=50) for size, frames in sizes.items()}
    return forecast(speeds, counts, config=label_config(cpus_per_actor=8), **usual | changes)


@pytest.fixture
def survey(drive) -> Survey:
    survey = Survey()
    request = PlanRequest(out=None, rule=PlanRule(interval=5, shard_seconds=60.0, shard_frames=20_000))
    for planned in plan_in_threads(request, [str(drive)]):
        survey.add(planned)
    return survey


@pytest.fixture
def model(tiny_model):
    return load_model(str(tiny_model))


def test_hours_are_frames_by_the_measured_rate_and_a_start_per_actor(label_config):
    expected = predict(label_config, [speed(720, 1280, 50.0)], {(720, 1280): 72_000})
    assert expected.work_s == pytest.approx(1440)
    assert expected.wall_s == pytest.approx(10 + 1440 / 4)
    assert expected.gpu_hours == pytest.approx(4 * 370 / 3600)
    assert expected.core_hours == pytest.approx(8 * expected.gpu_hours)
    assert expected.label_bytes == 72_000
    assert expected.frames_like_others == 0


def test_half_a_gpu_per_actor_costs_half(label_config):
    size = {(720, 1280): 72_000}
    whole = predict(label_config, [speed(720, 1280, 50.0)], size)
    half = predict(label_config, [speed(720, 1280, 50.0)], size, gpus_per_actor=0.5)
    assert half.gpu_hours == pytest.approx(whole.gpu_hours / 2)


def test_each_size_counts_at_its_own_speed_and_others_as_the_next_in_size(label_config):
    speeds = [speed(100, 100, 10.0), speed(200, 200, 5.0)]
    sizes = {(100, 100): 100, (200, 200): 100, (90, 100): 50, (400, 200): 50}
    expected = predict(label_config, speeds, sizes)
    assert expected.work_s == pytest.approx(100 / 10 + 100 / 5 + 50 / 10 + 50 / 5 * 2)  # smaller ones are no faster
    assert expected.frames_like_others == 100


def test_there_are_no_more_actors_than_shards(label_config):
    assert predict(label_config, [speed(9, 9, 1.0)], {(9, 9): 100}, num_actors=80).num_actors == 50


def test_a_real_worker_is_measured_and_leaves_nothing_behind(label_config, survey, model, monkeypatch, tmp_path):
    monkeypatch.setattr(forecasting, "MEASURE_S", 0.5)
    monkeypatch.setattr(forecasting.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    config = label_config(out="", spool_dir=str(tmp_path / "spool"))
    (measured,) = measure_speeds(make_trial(config, survey.sizes, model, device="cpu"), model, "cpu")
    assert (measured.height, measured.width) == (72, 96)
    assert measured.num_frames >= 10
    assert measured.seconds >= 0.5
    assert measured.label_bytes > 0
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not [path for path in (tmp_path / "spool").iterdir() if path.is_file()]


def test_a_sample_is_the_beginning_of_a_video_cut_as_the_job_would(label_config, survey, model):
    for shard_frames, sample_frames in ((20_000, 60), (10, 10)):
        (task,) = make_trial(label_config(shard_frames=shard_frames), survey.sizes, model, device="cpu").samples
        assert (task.shard.first_frame, task.shard.num_frames) == (0, sample_frames)


def test_the_batch_size_is_the_jobs(label_config, survey, model):
    assert make_trial(label_config(batch_chunks=3), survey.sizes, model, device="cpu").spec.batch_chunks == 3
    auto = label_config(batch_chunks="auto")
    assert make_trial(auto, survey.sizes, model, device="cuda").calibration is not None
    write_settled(auto.out, "cuda", {"batch_chunks": 8})
    trial = make_trial(auto, survey.sizes, model, device="cuda")
    assert (trial.spec.batch_chunks, trial.calibration) == (8, None)


def test_a_sample_that_is_gone_is_left_out(label_config, drive, survey, model, tmp_path):
    copy = shutil.copy(drive, tmp_path / "copy.mp4")
    survey.sizes[9, 9] = SizeCount(videos=1, frames=10, shards=1, sample_uri=str(tmp_path / "gone.mp4"))
    assert len(make_trial(label_config(videos=(copy,)), survey.sizes, model, device="cpu").samples) == 1
