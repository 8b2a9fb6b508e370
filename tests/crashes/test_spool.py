"""The disk of the spool is full for a while: the job waits until there is room. On a small disk in memory (root)."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

import gsvnet
from tests.disks import fill, small_disk
from tests.outputs import Visible, assert_equal_rows, rows_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # `make test-crashes`


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=8) as folder:
        if folder is None:
            pytest.skip("a disk in memory may not be mounted here")
        yield folder


def test_a_full_spool_disk_costs_only_time(undisturbed, label_config, deadly_ray, hold_at, disk):
    config = label_config(no_ray=False, num_actors=1, spool_dir=str(disk))
    visible, reports = Visible(config.out), []
    hold_at("gsvnet.store.publish:publish_file", call=3)
    job = threading.Thread(target=lambda: reports.append(gsvnet.label(config)))
    job.start()
    wait_until(lambda: (visible.look() >= 2 and hold_at.met()) or not job.is_alive())
    with fill(disk):
        hold_at.end()
        time.sleep(3)
        num_while_full = visible.look()
    job.join(timeout=240)
    assert (reports[0].exit_code, reports[0].shards_labeled) == (0, 7)
    assert num_while_full < 7
    assert visible.look() == 7
    assert_equal_rows(rows_of(config.out), undisturbed)
    with contextlib.suppress(FileNotFoundError):
        assert list(disk.iterdir()) == []
