"""`ray job submit` of jobs/label.py as the documents tell it: a real Ray head, object storage for videos and labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import gsvnet
from tests.clusters import Node, ray_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


class Jobs:
    """Submits to one cluster. store: the S3Server that its nodes know."""

    def __init__(self, cluster, store):
        self.cluster, self.store, self._count = cluster, store, 0

    def ray(self, *arguments):
        command = [RAY, "job", arguments[0], "--address", self.cluster.dashboard, *arguments[1:]]
        return subprocess.run(command, env=self.cluster.environment, capture_output=True, text=True, timeout=240)

    def submit(self, *arguments, wait=True):
        """(exit code of the CLI, submission id, what it printed)."""
        self._count += 1
        name = f"label-{self._count}"
        options = ["--submission-id", name, "--working-dir", str(ROOT), *([] if wait else ["--no-wait"])]
        done = self.ray("submit", *options, "--", "python", "-m", "jobs.label", *arguments)
        return done.returncode, name, done.stdout + done.stderr

    def info(self, name):
        with urllib.request.urlopen(f"{self.cluster.dashboard}/api/jobs/{name}") as answer:
            return json.load(answer)

    def wait_until_over(self, name, *, limit_s=120.0):
        deadline_s = time.monotonic() + limit_s
        while (info := self.info(name))["status"] in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline_s, f"{name} goes on:\n{self.ray('logs', name).stdout}"
            time.sleep(0.2)
        return info

    def put(self, bucket, name, content):
        self.store.client().put_object(Bucket=bucket, Key=f"videos/{name}", Body=content)

    def keys(self, bucket, prefix):
        found = self.store.client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in found]

    def num_rows(self, bucket):
        labels = gsvnet.open_labels(f"s3://{bucket}/out", storage_options=self.store.options)
        return labels.frames.to_table(columns=["frame_index"]).num_rows


@pytest.fixture(scope="module", params=["moto_s3", pytest.param("swift_s3", marks=pytest.mark.s3)])
def jobs(request):
    """A head with one CPU. Only its environment knows the store and the credentials, as on a node with a role."""
    store = request.getfixturevalue(request.param)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.key,
        "AWS_SECRET_ACCESS_KEY": store.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "RAY_JOB_STOP_WAIT_TIME_S": "90",
    }
    with ray_nodes([Node(cpus=1, environment=environment)], dashboard=True) as cluster:
        yield Jobs(cluster, store)


@pytest.fixture
def bucket(jobs, drive):
    """A bucket with videos/drive.mp4."""
    bucket = jobs.store.make_bucket()
    jobs.put(bucket, "drive.mp4", drive.read_bytes())
    return bucket


def usual(bucket, *more):
    own = ["--cpus-per-actor", "1", "--shard-frames", "12"]
    return [f"s3://{bucket}/videos/", "--out", f"s3://{bucket}/out", *own, *more]


def test_a_submitted_job_labels_from_bucket_to_bucket(jobs, bucket, tiny_model):
    code, name, printed = jobs.submit(*usual(bucket, "--model", str(tiny_model)))
    assert code == 0, printed
    assert jobs.info(name)["driver_exit_code"] == 0
    assert jobs.num_rows(bucket) == 60
    assert jobs.keys(bucket, "out/_SUCCESS")
    assert jobs.store.secret not in printed
    packages = [path for path in jobs.cluster.folder.rglob("_ray_pkg_*") if path.is_dir()]
    sizes = [sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in packages]
    assert 0 < max(sizes) < 30_000_000  # the checkout without its virtual environment, its history, its outputs


def test_a_video_that_fails_is_the_jobs_code_and_not_the_clis(jobs, bucket, tiny_model):
    jobs.put(bucket, "broken.mp4", b"no video at all" * 1000)
    arguments = usual(bucket, "--model", str(tiny_model))
    code, name, printed = jobs.submit(*arguments)
    assert (code, jobs.info(name)["driver_exit_code"]) == (1, 3), printed
    assert jobs.num_rows(bucket) == 60
    assert len(jobs.keys(bucket, "out/_failed/")) == 1
    code, name, printed = jobs.submit(*arguments, "--partial-ok")
    assert (code, jobs.info(name)["driver_exit_code"]) == (0, 0), printed
    assert not jobs.keys(bucket, "out/_SUCCESS")


@pytest.fixture
def long_bucket(jobs, media, tmp_path):
    """A bucket with a video whose shards take the default model seconds: more than Ray would wait by default."""
    bucket = jobs.store.make_bucket()
    jobs.put(bucket, "long.mp4", media.write_clip(tmp_path / "long.mp4", num_frames=240).read_bytes())
    return bucket


@pytest.mark.parametrize("way", ["ray job stop", "drain.py"])
def test_a_stopped_job_finishes_its_running_shard_and_the_same_command_goes_on(jobs, long_bucket, way):
    bucket, arguments = long_bucket, usual(long_bucket, "--shard-frames", "48")
    _, name, printed = jobs.submit(*arguments, wait=False)
    deadline_s = time.monotonic() + 120
    while not (before := len(jobs.keys(bucket, "out/labels/"))):
        assert time.monotonic() < deadline_s, printed + jobs.ray("logs", name).stdout
        time.sleep(0.05)
    if way == "drain.py":
        command = [sys.executable, str(ROOT / "cluster" / "drain.py"), jobs.cluster.dashboard]
        subprocess.run(command, env=jobs.cluster.environment, check=True, timeout=120)
        assert jobs.info(name)["status"] == "STOPPED"
    else:
        jobs.ray("stop", name)
    jobs.wait_until_over(name)
    log = jobs.ray("logs", name).stdout
    assert before < len(jobs.keys(bucket, "out/labels/")) < 5, log
    assert jobs.keys(bucket, "out/_report.json"), log
    code, _, printed = jobs.submit(*arguments)
    assert code == 0, printed
    assert jobs.num_rows(bucket) == 240
