"""Passwords, signatures and keys go where they are needed and come out nowhere: every byte of a job is searched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsvnet.cli import main
from tests.security.sites import PASSWORD, SIGNATURE, USER, Site, private_site
from tests.video.media import write_clip

KEY, SECRET = "hush-access-Key", "hush-secret-Key"
SECRETS = (USER, PASSWORD, SIGNATURE, KEY, SECRET)
ROOT = Path(__file__).resolve().parents[2]
LEAKY = """
import os
from torch import nn
from gsvnet.classes import CAMVID
from gsvnet.models.segmenter import Normalise, PerFrame

class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, len(CAMVID), 1)

    def forward(self, images):
        raise RuntimeError("lost on the way to " + os.environ["LEAKED"])

def make():
    normalise = Normalise(mean=(0, 0, 0), std=(1, 1, 1))
    return PerFrame(Leaky(), classes=CAMVID, normalise=normalise)
"""


def secrets_in(data: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in data]


def files_with_secrets(*folders: Path) -> dict[str, list[str]]:
    """Of all files below, or their names, that hold a secret: which."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    read = {str(path): os.fsencode(path) + (path.read_bytes() if path.is_file() else b"") for path in paths}
    assert len(read) > 3
    return {name: found for name, data in read.items() if (found := secrets_in(data))}


@pytest.fixture
def site(tmp_path_factory) -> Iterator[Site]:
    """A video, one that breaks off, and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    whole = write_clip(folder / "whole.mkv", num_frames=24, options={"x264-params": "keyint=12"}).read_bytes()
    with private_site({"whole.mkv": whole, "cut.mkv": whole[: len(whole) * 2 // 3], "none.mp4": b"no" * 999}) as site:
        yield site


def job_of(site: Site, model: object, *more: str) -> list[str]:
    """A job over all that is there and what is not; videos after --, since options may take several values."""
    videos = [site.uri(name) for name in ("whole.mkv", "cut.mkv", "none.mp4", "missing.mp4")]
    small = ["--shard-frames", "12", "--batch-chunks", "2", "--cpus-per-actor", "1", "--model", str(model)]
    return ["label", *videos, *small, *more]


def test_a_job_and_what_is_made_of_it_hold_no_secret(site, tiny_model, tmp_path, capfd, caplog):
    caplog.set_level(0)
    out = str(tmp_path / "out")
    assert main(job_of(site, tiny_model, "--out", out, "--no-ray")) == 3
    for command in (
        ["plan", site.uri("whole.mkv"), "--out", out, "--model", str(tiny_model), "--no-ray"],
        ["status", out],
        ["report", out, "--thumbnails", "1"],
        ["review", out, "--write", f"{tmp_path}/out/r.csv"],
        ["verify", out],
        ["compact", out, "--to", f"{tmp_path}/copy"],
        ["export", "coco", out, "--to", f"{tmp_path}/coco"],
    ):
        main(command)
    said = capfd.readouterr()
    assert "failed http://127.0.0.1" in said.out
    assert secrets_in((said.out + said.err).encode()) == []
    assert f"http://127.0.0.1:{site.port}/whole.mkv".encode() in b"".join(
        path.read_bytes() for path in Path(out).rglob("*.parquet")
    )
    assert files_with_secrets(tmp_path) == {}
    # clients may log their own requests where a user turns that on; this package's loggers say nothing secret
    own = [record.getMessage() for record in caplog.records if record.name.startswith("gsvnet")]
    assert secrets_in("\n".join(own).encode()) == []


def test_a_failure_whose_text_repeats_the_address_is_recorded_without_it(site, tmp_path, capfd, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "leaky.py").write_text(LEAKY)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setenv("LEAKED", site.uri("whole.mkv"))
    command = job_of(site, "leaky:make", "--out", str(tmp_path / "out"), "--no-ray", "--max-attempts", "1")
    assert main(command) == 3
    said = capfd.readouterr()
    assert "lost on the way to" in said.out + said.err
    assert secrets_in((said.out + said.err).encode()) == []
    assert files_with_secrets(tmp_path / "out") == {}


@pytest.mark.s3
def test_keys_in_storage_options_are_in_no_object(moto_s3, drive, tiny_model, capfd):
    bucket, options = moto_s3.make_bucket(), ["endpoint_url", moto_s3.endpoint_url, "key", KEY, "secret", SECRET]
    moto_s3.client().put_object(Bucket=bucket, Key="videos/drive.mp4", Body=drive.read_bytes()[:-5000])
    moto_s3.client().put_object(Bucket=bucket, Key="videos/none.mp4", Body=b"no" * 999)
    command = ["label", f"s3://{bucket}/videos/", "--out", f"s3://{bucket}/out", "--model", str(tiny_model), "--no-ray"]
    assert main([*command, "--video-options", *options, "--storage-options", *options]) == 3
    objects = moto_s3.client().list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]
    assert len(objects) > 3
    for each in objects:
        data = moto_s3.client().get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
        assert secrets_in(data + each["Key"].encode()) == []
    said = capfd.readouterr()
    assert secrets_in((said.out + said.err).encode()) == []


def test_no_command_says_the_secrets_of_an_output_that_is_not_there(site, tmp_path, capfd):
    out, to = site.uri("out"), str(tmp_path / "to")
    for command in (
        ["status", out],
        ["show", out],
        ["report", out, "--to", f"{to}.html"],
        ["view", out, "--port", "0"],
        ["review", out],
        ["verify", out],
        ["compact", out, "--to", to],
        ["compact", to, "--to", out],
        ["diff", out, out],
        ["export", "png", out, "--to", to],
        ["label", "a.mp4", "--out", out, "--no-ray"],
    ):
        assert main(command) in (1, 2), command
        said = capfd.readouterr()
        assert said.err.startswith("gsvnet: "), command
        assert secrets_in((said.out + said.err).encode()) == [], command


@pytest.mark.slow
def test_a_job_on_ray_leaves_no_secret_in_ray_s_own_logs(site, tiny_model, tmp_path):
    with tempfile.TemporaryDirectory(prefix="gsv-", dir="/tmp") as folder:  # Ray's sockets need a short path
        environment = os.environ | {"RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT), "RAY_BACKEND_LOG_LEVEL": "debug"}
        job = job_of(site, tiny_model, "--out", str(tmp_path / "out"))
        # At this level Ray logs every process's command line too, once a job takes some seconds: the videos are listed.
        (tmp_path / "videos.txt").write_text("\n".join(job[1:5]))
        command = [sys.executable, "-m", "gsvnet.cli", "label", f"@{tmp_path / 'videos.txt'}", *job[5:]]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=240, check=False)
        assert done.returncode == 3, done.stderr[-2000:]
        assert secrets_in(done.stdout + done.stderr) == []
        assert list(Path(folder).rglob("worker-*.out"))
        assert files_with_secrets(tmp_path / "out", Path(folder)) == {}
