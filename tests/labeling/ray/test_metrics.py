"""The job's metrics as Prometheus reads them: a real Ray node, its own endpoint."""

from __future__ import annotations

import time
import urllib.request

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from gsvnet.labeling.ray.cluster import connect
from gsvnet.labeling.ray.events import ActorLost, ActorReport, FleetStatus, ShardRetried
from gsvnet.labeling.ray.metrics import COUNTERS, GAUGES, JobMetrics
from gsvnet.labeling.ray.same_code import own_code
from gsvnet.labeling.tasks import DriftFigures, ShardFailure, ShardResult

REPORT = ActorReport(
    model_hash="a", device="cuda", device_name="X", node_id="n", node_ip="10.0.0.2", pid=1, code=own_code()
)
LAST = FleetStatus(num_waiting=0, num_running=2, num_up=2, num_starting=0, frames_running=12)
EVENTS = (
    *(("10.0.0.1", "0", frames) for frames in (50, 30)),
    ("10.0.0.2", "1", 20),
)


def result(node, gpu, num_frames):
    return ShardResult(
        video_id="a-1",
        shard_index=0,
        num_frames=num_frames,
        num_lost=3,
        num_damaged=5,
        num_keyframes=10,
        num_bytes=100,
        media_s=num_frames / 20,
        seconds={"decode": 0.5, "segment": 0.25, "write": 0.0, "total": 0.6},
        published=True,
        drift=DriftFigures(num_chunks=num_frames // 10, sum_agreement=num_frames / 10 - 0.5, num_below=1),
        node=node,
        gpu=gpu,
    )


@pytest.fixture(scope="module")
def scraped():
    """(name, node, gpu, stage, error: those it has) -> value of every metric of ours, after a job's events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "200")
        with connect(object_store_bytes=80_000_000):
            metrics = JobMetrics(fingerprint="f00")
            for event in (
                FleetStatus(num_waiting=9, num_running=3, num_up=3, num_starting=1, frames_running=70),
                *(result(*place) for place in EVENTS),
                ShardRetried(video_id="a", shard_index=0, attempts=1, error="DecodeError", message="m"),
                ShardRetried(video_id="a", shard_index=0, attempts=2, error="StoreError", message="m"),
                ShardFailure(video_id="a", shard_index=0, error="DecodeError", message="m", attempts=3),
                ActorLost(number=0, report=REPORT, reason="died", with_its_node=True),
                ActorLost(number=1, report=None, reason="died", with_its_node=False),
            ):
                metrics.observe(event)
            return wait_for_metrics(metrics, ray.nodes()[0]["MetricsExportPort"])


def wait_for_metrics(metrics, port, seconds=120.0):
    """All metrics, once they show the last status, which is told again and again, as a job does: Ray forgets gauges."""
    limit = time.monotonic() + seconds
    while True:
        metrics.observe(LAST)
        found = scrape(port)
        is_last = [value for (name, *_), value in found.items() if name == "ray_gsvnet_frames_running"] == [12]
        if is_last and {name for name, *_ in found} >= {f"ray_{name}" for name in (*COUNTERS, *GAUGES)}:
            return found
        assert time.monotonic() < limit, f"only {found}"
        time.sleep(0.2)


def scrape(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    ours = ("node", "gpu", "stage", "error", "status")
    return {
        (sample.name, *(sample.labels[key] for key in ours if key in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("fingerprint") == "f00"
    }


def test_work_is_counted_by_node_and_gpu(scraped):
    assert scraped["ray_gsvnet_frames_total", "10.0.0.1", "0"] == 80
    assert scraped["ray_gsvnet_frames_total", "10.0.0.2", "1"] == 20
    assert scraped["ray_gsvnet_unsound_frames_total", "10.0.0.1", "0", "decode_error"] == 6
    assert scraped["ray_gsvnet_unsound_frames_total", "10.0.0.1", "0", "damaged"] == 10
    assert scraped["ray_gsvnet_shards_total", "10.0.0.1", "0"] == 2
    assert scraped["ray_gsvnet_label_bytes_total", "10.0.0.1", "0"] == 200
    assert scraped["ray_gsvnet_video_seconds_total", "10.0.0.2", "1"] == 1


def test_drift_is_counted_as_a_mean_is_made_of(scraped):
    at = ("10.0.0.1", "0")
    assert scraped["ray_gsvnet_chunks_measured_total", *at] == 8
    assert scraped["ray_gsvnet_drift_total", *at] == 1.0
    assert scraped["ray_gsvnet_chunks_below_total", *at] == 2


def test_stages_are_told_apart_and_their_total_is_not_one_of_them(scraped):
    stages = {
        key[3]: value for key, value in scraped.items() if key[:2] == ("ray_gsvnet_stage_seconds_total", "10.0.0.1")
    }
    assert stages == {"decode": 1.0, "segment": 0.5}


def test_mishaps_are_counted_by_error_and_node(scraped):
    assert scraped["ray_gsvnet_retries_total", "DecodeError"] == 1
    assert scraped["ray_gsvnet_retries_total", "StoreError"] == 1
    assert scraped["ray_gsvnet_failures_total", "DecodeError"] == 1
    assert scraped["ray_gsvnet_actors_lost_total", "10.0.0.2"] == 1
    assert scraped["ray_gsvnet_actors_lost_total", ""] == 1


def test_the_fleet_is_shown_as_last_seen(scraped):
    shown = {name.removeprefix("ray_gsvnet_"): value for (name, *_), value in scraped.items() if "_total" not in name}
    assert shown == {
        "shards_waiting": 0,
        "shards_running": 2,
        "actors_up": 2,
        "actors_starting": 0,
        "actors_resting": 0,
        "frames_running": 12,
    }
