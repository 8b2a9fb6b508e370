"""cluster/prometheus.yml and grafana.json: they parse, and ask for metrics by the names that these have."""

from __future__ import annotations

import json
import re

import pytest

from gsvnet.labeling.ray.metrics import COUNTERS, GAUGES


@pytest.fixture(scope="module")
def dashboard(cluster_dir):
    return json.loads((cluster_dir / "grafana.json").read_text())


@pytest.fixture(scope="module")
def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_exactly_our_metrics(expressions):
    shown = set(re.findall(r"\bray_(gsvnet_\w+)", " ".join(expressions)))
    assert shown == COUNTERS.keys() | GAUGES.keys()


def test_the_dashboard_groups_by_labels_that_the_metrics_have(expressions):
    labels = {name: {*keys} for name, (_, keys) in COUNTERS.items()} | {name: {"fingerprint"} for name in GAUGES}
    for text in expressions:
        (name, *_) = re.findall(r"ray_(gsvnet_\w+)", text) or [""]
        groups = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", text) for label in group.split(",")}
        assert groups <= labels.get(name, {"instance", "GpuIndex"}), text


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


def test_prometheus_follows_rays_list_of_nodes(cluster_dir):
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((cluster_dir / "prometheus.yml").read_text())
    (scraped,) = config["scrape_configs"]
    (found,) = scraped["file_sd_configs"]
    assert found["files"] == ["/tmp/ray/prom_metrics_service_discovery.json"]
