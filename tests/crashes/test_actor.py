"""An actor dies at a chosen point. Its shard runs again elsewhere; what it had published stands."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import gsvnet
from tests.outputs import Visible, assert_equal_rows, rows_of, shards_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("deadly_ray")]  # `make test-crashes`


@pytest.mark.parametrize(
    ("where", "call", "when", "num_before", "num_found"),
    [
        pytest.param("gsvnet.video.decode:read_frames", 3, "before", 0, 0, id="decoding"),
        pytest.param("gsvnet.store.write:ShardWriter.append", 31, "before", 2, 0, id="writing the spool"),
        pytest.param("gsvnet.store.publish:publish_file", 2, "before", 1, 0, id="about to publish"),
        pytest.param("gsvnet.store.publish:publish_file", 2, "after", 2, 1, id="published, not yet answered"),
    ],
)
def test_an_actor_killed_while(undisturbed, label_config, die_at, tmp_path, where, call, when, num_before, num_found):
    config = label_config(no_ray=False, num_actors=1, spool_dir=str(tmp_path / "spool"))
    visible = Visible(config.out)
    die_at(where, call=call, when=when)
    reports = []
    job = threading.Thread(target=lambda: reports.append(gsvnet.label(config)))
    job.start()
    wait_until(lambda: die_at.met() or not job.is_alive())
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in shards_of(config.out)}
    job.join(timeout=240)
    assert die_at.met()
    assert len(before) >= num_before
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in before} == before
    assert (reports[0].exit_code, reports[0].shards_labeled, reports[0].shards_skipped) == (0, 7 - num_found, num_found)
    assert visible.look() == 7
    assert_equal_rows(rows_of(config.out), undisturbed)
    assert list(Path(config.spool_dir).iterdir()) == []  # the next worker swept the dead one's spool


def test_two_jobs_on_one_output_label_every_shard_once(undisturbed, label_config):
    config = label_config(no_ray=False, num_actors=1)
    reports = []
    jobs = [threading.Thread(target=lambda: reports.append(gsvnet.label(config))) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=240)
    assert [report.exit_code for report in reports] == [0, 0]
    assert sum(report.shards_labeled for report in reports) == 7
    assert len(shards_of(config.out)) == 7
    assert_equal_rows(rows_of(config.out), undisturbed)
