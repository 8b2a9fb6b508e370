"""An output that cannot be used is told in one line at the start, without credentials: object and remedy."""

from __future__ import annotations

import datetime
import logging
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, OutputConflict, StoreRefused, StoreUnavailable
from gsvnet.store import faults
from gsvnet.store.job import JobRecord, open_job
from gsvnet.store.publish import publish_bytes


def start(out: str, options: dict | None, interval: int = 5) -> JobRecord:
    fields = {"keyframe_interval": interval}
    return open_job(out, fields, classes=CAMVID, model_hash="m", storage_options=options)


def refusal(out: str, options: dict | None) -> str:
    with pytest.raises(ConfigError) as caught:
        start(out, options)
    assert str(caught.value).startswith(f"the output {out} cannot be used: cannot ")
    return str(caught.value)


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto_s3", "swift_s3"])
def test_a_missing_bucket(request, server):
    said = refusal("s3://no-such-bucket/out", request.getfixturevalue(server).options)
    assert said.endswith("there is no bucket no-such-bucket; create it, or correct the URI")


@pytest.mark.s3
@pytest.mark.parametrize("wrong", [{"secret": "wrong-secretword"}, {"key": "test:nobody"}])
def test_wrong_credentials_are_told_and_never_shown(swift_s3, wrong, caplog):
    caplog.set_level(logging.INFO)
    said = refusal(f"s3://{swift_s3.make_bucket()}/out", swift_s3.options | wrong)
    assert "the store does not accept the credentials" in said or "lack the right" in said
    shown = said + caplog.text
    assert not [word for word in ("secretword", swift_s3.secret) if word in shown]


@pytest.mark.s3
def test_no_right_to_write(swift_s3):
    bucket = swift_s3.make_bucket()
    swift_s3.let_read(bucket)
    said = refusal(f"s3://{bucket}/out", swift_s3.reader_options)
    assert f"cannot write s3://{bucket}/out/_job.json: the credentials lack the right to (AccessDenied)" in said


@pytest.mark.s3
def test_a_right_that_is_lost_while_a_job_runs_is_no_shard_s_fault(swift_s3):
    bucket = swift_s3.make_bucket()
    swift_s3.let_read(bucket)
    with pytest.raises(StoreRefused, match="lack the right"):
        publish_bytes(b"x", f"s3://{bucket}/out/labels/v/000000.parquet", swift_s3.reader_options)


@pytest.mark.s3
def test_a_clock_that_is_wrong(swift_s3, monkeypatch):
    auth = pytest.importorskip("botocore.auth")
    bucket = swift_s3.make_bucket()
    wrong = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(hours=1)
    monkeypatch.setattr(auth, "get_current_datetime", lambda *args, **kwargs: wrong)
    said = refusal(f"s3://{bucket}/out", swift_s3.options)
    assert "differs too much from the store's (RequestTimeTooSkewed); set it" in said


@pytest.mark.s3
def test_an_endpoint_whose_name_does_not_exist_is_told_at_once(monkeypatch):
    asked = []

    def unknown(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    options = {"endpoint_url": "http://no-such-host.invalid:9000", "key": "k", "secret": "secretword"}
    said = refusal("s3://bucket/out", options)
    assert "no host has the name of the store's endpoint; correct endpoint_url" in said
    assert "secretword" not in said
    assert set(asked) == {"no-such-host.invalid"}


@pytest.mark.s3
def test_an_endpoint_that_is_no_url():
    assert "Invalid endpoint: nonsense" in refusal(
        "s3://bucket/out", {"endpoint_url": "nonsense", "key": "k", "secret": "s"}
    )


@pytest.mark.s3
def test_a_store_that_is_down_at_the_start_is_an_outage(monkeypatch):
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.5)
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "secretword"}
    with pytest.raises(StoreUnavailable, match="the store is out") as caught:
        start("s3://bucket/out", options)
    assert "secretword" not in str(caught.value)


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto_s3", "swift_s3"])
def test_the_output_of_another_job(request, server):
    server = request.getfixturevalue(server)
    out = f"s3://{server.make_bucket()}/out"
    assert start(out, server.options) == start(out, server.options)
    with pytest.raises(OutputConflict, match="--keyframe-interval: 5 in the output, 7 now"):
        start(out, server.options, interval=7)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system, which only root may")
def test_a_read_only_file_system(tmp_path):
    code = f"""
        from gsvnet.classes import CAMVID
        from gsvnet.errors import ConfigError
        from gsvnet.store.job import open_job
        try: open_job({str(tmp_path / "out")!r}, {{}}, classes=CAMVID, model_hash="m")
        except ConfigError as error: print(error)
    """
    script = f'mount -t tmpfs -o ro none {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode and "mount" in run.stderr:
        pytest.skip(f"nothing can be mounted here: {run.stderr.strip()}")
    assert run.stdout.endswith("_job.json: the file system is read-only; choose another folder\n")
