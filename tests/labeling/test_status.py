from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from gsvnet.chunks import shard_name
from gsvnet.classes import CAMVID
from gsvnet.cli import main
from gsvnet.errors import StoreError
from gsvnet.labeling.status import JobStatus, measure_speed, read_status
from gsvnet.labeling.status_text import describe_status, show_status
from gsvnet.store.filesystem import open_filesystem
from gsvnet.store.job import FailureRecord, open_job, write_failure, write_plan
from gsvnet.store.layout import shard_uri

NOW = 1_000_000.0
FAILED = FailureRecord(video="b-2", uri="b.mp4", shard="000001", error="DecodeError", message="it\nbroke", attempts=2)


class Output:
    """An output of given plans and labels; label files hold bytes that are no Parquet, since nobody reads them."""

    def __init__(self, out, options=None):
        self.out, self.options = str(out), options
        fields = {"keyframe_interval": 5, "model_settings": {"family": "gsvnet-swiftnet"}}
        self.job = open_job(self.out, fields, classes=CAMVID, model_hash="a" * 64, storage_options=options)

    def plan(self, video, *frames):
        write_plan(self.out, video, {"shards": [{"num_frames": number} for number in frames]}, self.options)

    def label(self, video, index, *, at=None, size=100):
        uri = shard_uri(self.out, video, shard_name(index))
        fs, path = open_filesystem(uri, self.options)
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, b"x" * size)
        if at is not None:
            os.utime(path, (at, at))

    def put(self, name, data):
        fs, path = open_filesystem(f"{self.out}/{name}", self.options)
        fs.pipe_file(path, data)

    def status(self, **options):
        return read_status(self.out, self.options, **options)


@pytest.fixture
def output(tmp_path):
    return Output(tmp_path / "out")


@pytest.fixture
def half_done(output):
    """Of two videos with 100 + 100 + 50 and 50 + 50 frames three shards are there, one every 100 s; one failed."""
    output.plan("a-1", 100, 100, 50)
    output.plan("b-2", 50, 50)
    output.label("a-1", 0, at=NOW - 210)
    output.label("a-1", 1, at=NOW - 110)
    output.label("b-2", 0, at=NOW - 10)
    write_failure(output.out, FAILED)
    return output


def test_what_is_there_is_counted_against_the_plans(half_done):
    status = half_done.status(now=NOW)
    assert (status.videos, status.videos_done) == (2, 0)
    assert (status.shards, status.shards_done) == (5, 3)
    assert (status.frames, status.frames_done, status.label_bytes) == (350, 250, 300)
    assert (status.num_failed, status.failures) == (1, (FAILED,))
    assert (status.fingerprint, status.family, status.keyframe_interval) == (
        half_done.job.fingerprint,
        "gsvnet-swiftnet",
        5,
    )


def test_speed_and_time_to_go_follow_from_the_times_of_the_objects(half_done):
    status = half_done.status(now=NOW)
    assert status.frames_per_s == pytest.approx(2 / 200 * 250 / 3)
    assert status.quiet_s == pytest.approx(10)
    assert status.at_work
    assert status.to_go_s == pytest.approx((350 - 250 - 350 / 5) / status.frames_per_s)  # one shard was given up


def test_nothing_is_promised_where_nobody_is_at_work(half_done):
    status = half_done.status(now=NOW + 3600)
    assert (status.at_work, status.to_go_s) == (False, None)
    assert describe_status(status)["state"] == "not at work, 2 shards without labels, last label 1:00:10 ago"


def test_a_run_that_ended_with_failures_is_not_at_work(half_done):
    half_done.label("a-1", 2)
    half_done.put("_report.json", json.dumps({"exit_code": 3}).encode())
    status = half_done.status()
    assert (status.shards_done, status.num_failed, status.shards) == (4, 1, 5)
    assert replace(status, quiet_s=10.0).at_work is False
    assert replace(status, quiet_s=10.0, last_exit_code=None).at_work


def test_a_failure_is_void_once_the_labels_exist(half_done):
    half_done.label("b-2", 1)
    assert half_done.status().num_failed == 0


def test_a_complete_output_says_so_with_the_last_exit_code(half_done):
    half_done.put("_SUCCESS", b"")
    half_done.put("_report.json", json.dumps({"exit_code": 0}).encode())
    status = half_done.status(now=NOW)
    assert (status.complete, status.at_work, status.last_exit_code) == (True, False, 0)
    state = "complete, last label 0:10 ago, the last run that ended had exit code 0"
    assert describe_status(status)["state"] == state


def test_an_output_that_has_just_begun_divides_by_nothing(output):
    status = output.status()
    assert (status.shards, status.frames_per_s, status.quiet_s, status.last_exit_code) == (0, None, None, None)
    assert describe_status(status)["state"] == "no labels yet"


@pytest.mark.parametrize(
    ("times", "speed"),
    [
        ([], None),
        ([5.0], None),
        ([5.0, 5.0], None),
        ([10.0, 0.0, 20.0], 0.1),
        ([0.0, 0.0, 10_000.0, 10_010.0, 10_020.0], 0.1),  # what is older than an hour is another story
    ],
)
def test_speed_is_of_the_last_hour(times, speed):
    assert measure_speed(times) == speed


def test_lines_for_people(half_done, make_console):
    log = make_console(width=20)
    show_status(half_done.status(now=NOW), log)
    assert log.file.getvalue().splitlines() == [
        f"output   {half_done.out}",
        f"job      {half_done.job.fingerprint[:12]}: gsvnet-swiftnet, model hash aaaaaaaaaaaa, keyframe interval 5",
        "state    at work, last label 0:10 ago",
        "videos   0 done of 2 planned",
        "shards   3 done of 5 (60.0 %)",
        "frames   250 done of 350",
        "labels   300 bytes, 1 bytes a frame",
        "speed    0.8 frames/s in the last hour with labels, 0:36 to go",
        "failed   1:",
        "         b-2/000001 DecodeError: it broke",
    ]


def test_json_for_programs(half_done, capsys):
    assert main(["status", half_done.out, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["shards_done"], data["failures"][0]["error"], data["at_work"]) == (3, "DecodeError", False)
    assert set(data) == {*JobStatus.__dataclass_fields__, "at_work", "to_go_s"}


def test_a_folder_that_is_no_output_is_one_line(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"gsvnet: {tmp_path} is no output of this program: it has no _job.json\n"


def test_a_plan_of_another_version_is_named(output):
    write_plan(output.out, "a-1", {"parts": []})
    with pytest.raises(StoreError, match="a-1 is not of this version"):
        output.status()


def test_neither_torch_nor_ray_is_loaded(half_done):
    code = f"""
import sys
from gsvnet.cli import main
main(["status", {half_done.out!r}])
print(sorted({{"torch", "ray", "av"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_bucket_tells_the_same(moto_s3):
    output = Output(f"s3://{moto_s3.make_bucket()}/out", moto_s3.options)
    output.plan("a-1", 100, 100)
    output.label("a-1", 1)
    status = output.status()
    assert (status.shards_done, status.frames_done, status.label_bytes) == (1, 100, 100)
    assert 0 <= status.quiet_s < 60
