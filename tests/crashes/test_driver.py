"""The driver dies, or is told to stop. The same command goes on; nothing that was visible changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import gsvnet
from tests.drivers import LABEL, Driver, label_command
from tests.material import repeat_video
from tests.outputs import Visible, assert_equal_rows, rows_of, shards_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # `make test-crashes`


@pytest.mark.parametrize(
    ("where", "call", "when", "num_visible"),
    [
        pytest.param("gsvnet.store.job:write_plan", 1, "before", {0}, id="planning"),
        pytest.param("gsvnet.store.job:write_plan", 1, "after", {0}, id="planned, nothing labeled"),
        pytest.param(
            "gsvnet.store.write:ShardWriter.append", 2 * 12 + 7, "before", {2, 3}, id="labeling in its own process"
        ),
        pytest.param("gsvnet.store.manifest:write_derived", 1, "before", {7}, id="all labeled, no derived files"),
        pytest.param("gsvnet.store.publish:replace_bytes", 2, "before", {7}, id="writing derived files"),
    ],
)
def test_a_driver_killed_while(
    undisturbed, label_config, deadly_environment, die_at, tmp_path, where, call, when, num_visible
):
    config = label_config(spool_dir=str(tmp_path / "spool"))
    die_at(where, call=call, when=when)
    command = label_command(config)
    died = subprocess.run(command, env=os.environ | deadly_environment, check=False, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    num_before = len(shards_of(config.out))
    assert num_before in num_visible
    assert not (Path(config.out) / "_SUCCESS").exists()
    report = gsvnet.label(config)
    assert (report.exit_code, report.shards_labeled, report.shards_in_output) == (0, 7 - num_before, 7)
    assert (Path(config.out) / "_SUCCESS").exists()
    assert_equal_rows(rows_of(config.out), undisturbed)
    assert [path for path in Path(config.out).rglob(".*")] == list(Path(config.spool_dir).iterdir()) == []


def test_killing_the_driver_loses_nothing_but_time(undisturbed, label_config, ray_here, deadly_environment, hold_at):
    config = label_config(no_ray=False, num_actors=1)
    visible = Visible(config.out)
    hold_at("gsvnet.store.publish:publish_file", call=3)
    with Driver(config, deadly_environment) as driver:
        wait_until(lambda: (visible.look() >= 2 and hold_at.met()) or driver.process.poll() is not None)
        driver.kill()
        hold_at.end()
        num_before = visible.look()
    assert 2 <= num_before < 7
    assert not (Path(config.out) / "_SUCCESS").exists()
    report = gsvnet.label(config)
    assert (report.exit_code, report.shards_in_output) == (0, 7)
    visible.look()
    assert_equal_rows(rows_of(config.out), undisturbed)
    assert [path for path in Path(config.out).rglob(".*")] == []  # what the dead writer left is swept


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_finishes_its_shard_and_goes_on_later(
    undisturbed, label_config, ray_here, deadly_environment, hold_at
):
    config = label_config(no_ray=False, num_actors=1)
    visible = Visible(config.out)
    hold_at("gsvnet.store.publish:publish_file", call=3)
    with Driver(config, deadly_environment) as driver:
        wait_until(lambda: (visible.look() >= 2 and hold_at.met()) or driver.process.poll() is not None)
        driver.process.terminate()
        hold_at.end()
        assert driver.process.wait(timeout=240) == 1
    stored = json.loads((Path(config.out) / "_report.json").read_text())
    assert (stored["stopped"], stored["exit_code"]) == (True, 1)
    assert 2 <= visible.look() < 7
    assert not (Path(config.out) / "_SUCCESS").exists()
    assert gsvnet.label(config).exit_code == 0
    assert_equal_rows(rows_of(config.out), undisturbed)


def test_ctrl_c_ends_a_job_in_this_process_at_once(drive, tiny_model, tmp_path):
    video, spool, out = repeat_video(drive, 1000, tmp_path / "long.mkv"), tmp_path / "spool", tmp_path / "out"
    command = [*LABEL, video, "--out", out, "--model", tiny_model, "--no-ray"]
    job = subprocess.Popen(
        [*command, "--cpus-per-actor", "1", "--shard-seconds", "9999", "--spool-dir", spool],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    wait_until(lambda: list(spool.glob(".gsvnet-*")) or job.poll() is not None)
    pressed_s = time.monotonic()
    job.send_signal(signal.SIGINT)
    _, complaint = job.communicate(timeout=240)
    assert (job.returncode, complaint) == (1, "gsvnet: interrupted; the same command goes on where it stopped\n")
    assert time.monotonic() - pressed_s < 60  # the whole shard takes minutes
    assert list(spool.iterdir()) == shards_of(out) == []
