"""cluster/prometheus.yml and grafana.json: they parse, and ask for metrics by the names that these have."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest


@pytest.fixture(scope="module")
def dashboard(cluster_dir):
    return json.loads((cluster_dir / "grafana.json").read_text())


@pytest.fixture(scope="module")
def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


OURS = {
    *("gsvnet_frames_total", "gsvnet_shards_total", "gsvnet_label_bytes_total", "gsvnet_video_seconds_total"),
    *("gsvnet_stage_seconds_total", "gsvnet_retries_total", "gsvnet_failures_total", "gsvnet_actors_lost_total"),
    *("gsvnet_shards_waiting", "gsvnet_shards_running", "gsvnet_frames_running"),
    *("gsvnet_actors_up", "gsvnet_actors_starting", "gsvnet_actors_resting"),
}


def test_the_dashboard_shows_exactly_our_metrics(expressions):
    assert set(re.findall(r"\bray_(gsvnet_\w+)", " ".join(expressions))) == OURS


def test_our_metrics_are_those_that_the_program_exports():
    spec = importlib.util.find_spec("gsvnet.labeling.ray.metrics")
    if spec is None or spec.origin is None:
        pytest.skip("no metrics yet")
    with open(spec.origin) as file:  # noqa: PTH123
        assert set(re.findall(r'"(gsvnet_\w+)"', file.read())) == OURS


def test_counters_are_shown_as_rates_and_gauges_as_they_are(expressions):
    whole = {"ray_gsvnet_failures_total", "ray_gsvnet_actors_lost_total"}  # few: their number says more than their rate
    for text in expressions:
        for name in re.findall(r"ray_gsvnet_\w+", text):
            is_rate = re.search(rf"(rate|increase)\({name}\b", text) is not None
            assert is_rate == (name.endswith("_total") and name not in whole), text


def test_brackets_close(expressions):
    for text in expressions:
        for opened, closed in ("()", "{}", "[]"):
            assert text.count(opened) == text.count(closed), text


def test_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_prometheus_follows_rays_list_of_nodes_and_keeps_our_labels(cluster_dir):
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((cluster_dir / "prometheus.yml").read_text())
    (scraped,) = config["scrape_configs"]
    assert scraped["honor_labels"] is True  # else `job`, by which the dashboard selects, is renamed
    (found,) = scraped["file_sd_configs"]
    assert found["files"] == ["/tmp/ray/prom_metrics_service_discovery.json"]
