"""cluster/slurm.sh, run by bash with the variables that Slurm sets; only Slurm's own commands are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

import gsvnet
from gsvnet.labeling.planning import in_share
from gsvnet.video.source import video_id


@pytest.fixture
def slurm(cluster_dir, tmp_path):
    """slurm(task, count, *arguments, program=...): slurm.sh as task `task` of `count`, started.

    program: a shell script in place of gsvnet. What is requeued stands in tmp_path/requeued.
    """
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()

    def stand_in(name, script):
        (bin_dir / name).write_text(f"#!/bin/bash\n{script}\n")
        (bin_dir / name).chmod(0o755)

    stand_in("scontrol", f'echo "$@" >> {tmp_path}/requeued')

    def start(task, count, *arguments, program=None, **variables):
        if program is not None:
            stand_in("gsvnet", program)
        own = {
            "PATH": f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(count),
        }
        command = ["bash", str(cluster_dir / "slurm.sh"), *arguments]
        return subprocess.Popen(command, env=os.environ | own | variables, cwd=tmp_path)

    return start


def requeued(tmp_path):
    path = tmp_path / "requeued"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("name", ["slurm.sh", "slurm-ray.sh"])
def test_scripts_are_bash_that_stops_at_errors(cluster_dir, name):
    text = (cluster_dir / name).read_text()
    subprocess.run(["bash", "-n", str(cluster_dir / name)], check=True)
    assert text.startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in text
    assert os.access(cluster_dir / name, os.X_OK)


@pytest.mark.parametrize("name", ["slurm.sh", "slurm-ray.sh"])
def test_the_warning_comes_before_the_drain_is_over(cluster_dir, name):
    text = (cluster_dir / name).read_text()
    warning_s = int(text.partition("--signal=B:TERM@")[2].split()[0])
    assert warning_s > int(text.partition("--drain-seconds ")[2].split()[0])


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_exit_code_is_the_programs(slurm, tmp_path, code):
    assert slurm(0, 2, "clip.mp4", program=f"exit {code}").wait(timeout=20) == code
    assert requeued(tmp_path) == []


def test_the_arguments_are_passed_on_as_they_are(slurm, tmp_path):
    process = slurm(1, 4, "a b.mp4", "--out", "o", program=f'printf "%s\\n" "$@" > {tmp_path}/seen')
    assert process.wait(timeout=20) == 0
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen[:8] == ["label", "a b.mp4", "--out", "o", "--array-index", "1", "--array-count", "4"]


STOPS_LATE = "trap 'sleep 0.5; exit 1' TERM\ntouch started\nfor i in {1..200}; do sleep 0.1; done"


@pytest.mark.parametrize(("restarts", "lines"), [("0", ["requeue 7_3"]), ("20", [])])
def test_a_task_that_was_stopped_waits_for_the_drain_and_is_queued_again(slurm, tmp_path, restarts, lines):
    process = slurm(3, 4, "clip.mp4", program=STOPS_LATE, SLURM_RESTART_COUNT=restarts)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 1
    assert requeued(tmp_path) == lines


IN_THE_CLUSTER = """
import os, ray, sys
ray.init(log_to_driver=False)
ray.get(ray.remote(num_cpus=1)(lambda: 1).remote())
print(ray.cluster_resources()["CPU"], os.environ["RAY_AUTH_MODE"], *sys.argv[1:4], file=open("seen", "w"), flush=True)
sys.exit(3)
"""


@pytest.mark.slow
def test_nodes_form_a_cluster_with_a_token_for_as_long_as_the_job_runs(cluster_dir, tmp_path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (tmp_path / "driver.py").write_text(IN_THE_CLUSTER)
    stand_ins = {
        "scontrol": "echo 127.0.0.1",  # show hostnames
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@" --object-store-memory=80000000',
        "gsvnet": f'exec {sys.executable} {tmp_path}/driver.py "$@"',
    }
    for name, script in stand_ins.items():
        (bin_dir / name).write_text(f"#!/bin/bash\n{script}\n")
        (bin_dir / name).chmod(0o755)
    own = {
        "PATH": f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1]",
        "SLURM_CPUS_PER_TASK": "3",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    with tempfile.TemporaryDirectory(prefix="gsv-", dir="/tmp") as short:
        own |= {"HOME": short, "RAY_TMPDIR": short}
        process = subprocess.Popen(
            ["bash", str(cluster_dir / "slurm-ray.sh"), "a.mp4", "--out", "o"],
            env={name: text for name, text in os.environ.items() if not name.startswith("RAY_")} | own,
            cwd=tmp_path,
            start_new_session=True,
        )
        assert process.wait(timeout=120) == 3
        assert (tmp_path / "seen").read_text().split() == ["3.0", "token", "label", "a.mp4", "--out"]
        wait_until_gone(short)


def wait_until_gone(folder, *, limit_s=120.0):
    """No process has the folder in its command line any more."""
    deadline_s = time.monotonic() + limit_s
    while any(folder in " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline_s, "processes of Ray are left"
        time.sleep(0.2)


@pytest.mark.slow
def test_two_tasks_label_one_output_and_the_last_one_ends_it(slurm, media, tiny_model, tmp_path):
    paths = [tmp_path / f"clip{number}.mp4" for number in range(40)]
    shares = [[path for path in paths if in_share(video_id(str(path)), task, 2)][:2] for task in (0, 1)]
    videos = [media.write_clip(path, num_frames=10) for share in shares for path in share]
    out = tmp_path / "out"
    usual = ["--out", str(out), "--model", str(tiny_model), "--cpus-per-actor", "1", "--no-ray"]
    for task in (0, 1):
        assert not (out / "_SUCCESS").exists()
        assert slurm(task, 2, *map(str, videos), *usual).wait(timeout=120) == 0
        frames = gsvnet.open_labels(str(out)).frames.to_table(columns=["video"]).num_rows
        assert (frames == 40) == (task == 1)
    assert (out / "_SUCCESS").exists()
