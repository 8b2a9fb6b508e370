"""The store goes away while a shard is published. It waits, and stands there once."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

import gsvnet
from gsvnet.errors import StoreUnavailable
from gsvnet.labeling.limits import LimitsConfig
from tests.outputs import assert_equal_rows, rows_of
from tests.soak.proxy import FAIR, Weather, faulty_proxy

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(900)]  # `make test-crashes`
DOWN, ANSWER_LOST = Weather(is_down=True), Weather(answer_lost=1)


class Storm:
    """Down for some seconds from the second label file on. first: what that request itself meets."""

    def __init__(self, first, seconds):
        self.first, self.seconds, self.until_s, self.puts = first, seconds, None, []

    def __call__(self, method, path):
        if method == "PUT" and "/labels/" in path:
            self.puts.append(path.partition("?")[0])
            if self.until_s is None and len(set(self.puts)) == 2:
                self.until_s = time.monotonic() + self.seconds
                return self.first
        return DOWN if self.until_s is not None and time.monotonic() < self.until_s else None


@pytest.fixture
def proxied(moto_s3, label_config):
    """A proxy before an S3 server, a job behind it, and the output as the server itself shows it."""
    bucket = moto_s3.make_bucket()
    with faulty_proxy(moto_s3.endpoint_url) as proxy:
        options = moto_s3.options | {"endpoint_url": proxy.url}
        config = label_config(out=f"s3://{bucket}/out", storage_options=options, no_ray=False, num_actors=1)
        yield proxy, config, lambda: rows_of(config.out, moto_s3.options)


@pytest.mark.parametrize(
    ("first", "num_found"),
    [
        pytest.param(DOWN, 0, id="before the object stands"),
        pytest.param(ANSWER_LOST, 1, id="after, the answer is lost"),
    ],
)
def test_the_store_goes_down_in_the_middle_of_a_publication(undisturbed, ray_here, proxied, first, num_found):
    proxy, config, stored_rows = proxied
    proxy.forecast = storm = Storm(first, seconds=3)
    report = gsvnet.label(config)
    assert (report.exit_code, report.shards_in_output) == (0, 7)
    assert (report.shards_labeled, report.shards_skipped) == (7 - num_found, num_found)
    assert len(set(storm.puts)) == 7
    assert len(storm.puts) > 7  # the second one was asked for again
    assert_equal_rows(stored_rows(), undisturbed)


@pytest.mark.slow
def test_a_store_that_stays_away_stops_the_job_and_the_same_command_goes_on(undisturbed, ray_here, proxied):
    proxy, config, stored_rows = proxied
    proxy.forecast = Storm(DOWN, seconds=3600)
    impatient = replace(config, limits=LimitsConfig(outage_timeout_s=5))
    with pytest.raises(StoreUnavailable):
        gsvnet.label(impatient)
    proxy.forecast, proxy.weather = lambda method, path: None, FAIR
    report = gsvnet.label(config)
    assert (report.exit_code, report.shards_in_output) == (0, 7)
    assert report.shards_labeled < 7
    assert_equal_rows(stored_rows(), undisturbed)
