"""Publishing on S3: one PUT per object, tried again with the whole body, nothing left by killed writers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.dataset as pads
import pytest

from gsvnet.classes import CAMVID
from gsvnet.errors import AlreadyPublished, ConfigError, StoreError
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.filesystem import read_bytes
from gsvnet.store.job import open_job
from gsvnet.store.layout import list_committed, shard_uri
from gsvnet.store.manifest import write_derived
from gsvnet.store.publish import publish_bytes, publish_file
from gsvnet.store.read import open_labels
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter

ROOT = Path(__file__).parents[2]  # from where a child finds tests/

pytestmark = pytest.mark.s3


@pytest.fixture(params=["moto", "swift"])
def s3(request):
    return request.getfixturevalue(f"{request.param}_s3")


def test_a_large_shard_is_one_put_and_no_multipart_upload(s3, tmp_path):
    source = tmp_path / "spool"
    with source.open("wb") as file:
        file.truncate(110 << 20)  # s3fs's own writes turn into multipart uploads at 100 MiB
    uri = f"s3://{s3.make_bucket()}/x"
    publish_file(source, uri, s3.options)
    info = fsspec.filesystem("s3", **s3.options).info(uri)
    assert info["size"] == 110 << 20
    assert "-" not in info["ETag"]  # the etag of a multipart object ends in "-<parts>"


def test_errors_never_show_credentials_of_a_uri(s3):
    with pytest.raises(StoreError) as caught:
        publish_bytes(b"x", "s3://user:secretword@bucket/x?token=secretword", s3.options)
    assert "secretword" not in str(caught.value)


class _Answers:
    """An S3 client's put_object that fails as told, then works; keeps what each try sent."""

    def __init__(self, fs, failures):
        from botocore.exceptions import ClientError

        self.sent = []
        answers = [
            ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
            for code, status in failures
        ]
        fs.connect()
        original = fs.s3.put_object

        async def put_object(**request):
            if answers:
                self.sent.append(request["Body"].read())  # a try that fails half way has moved the body
                raise answers.pop(0)
            self.sent.append(request["Body"].read())
            request["Body"].seek(0)
            return await original(**request)

        put_object.__name__ = "put_object"
        self.fs, self.put_object = fs, put_object


@pytest.mark.parametrize(
    "failure", [("ConditionalRequestConflict", 409), ("SlowDown", 503), ("InternalError", 500), ("TooMany", 429)]
)
def test_conflict_and_throttling_are_tried_again_with_the_whole_body(s3, monkeypatch, failure):
    options = {**s3.options, "skip_instance_cache": True}
    answers = _Answers(fsspec.filesystem("s3", **options), [failure, failure])
    monkeypatch.setattr(answers.fs.s3, "put_object", answers.put_object)
    monkeypatch.setattr("gsvnet.store.publish.open_filesystem", lambda uri, o: (answers.fs, uri[5:]))
    uri = f"s3://{s3.make_bucket()}/x"
    publish_bytes(b"all of it", uri, options)
    assert answers.sent == [b"all of it"] * 3
    assert read_bytes(uri, s3.options) == b"all of it"


@pytest.mark.parametrize(
    ("failure", "error"),
    [(("PreconditionFailed", 412), AlreadyPublished), (("NotImplemented", 501), ConfigError),
     (("AccessDenied", 403), StoreError)],
)  # fmt: skip
def test_final_answers_are_not_tried_again(s3, monkeypatch, failure, error):
    answers = _Answers(fsspec.filesystem("s3", **s3.options, skip_instance_cache=True), [failure])
    monkeypatch.setattr(answers.fs.s3, "put_object", answers.put_object)
    monkeypatch.setattr("gsvnet.store.publish.open_filesystem", lambda uri, o: (answers.fs, uri[5:]))
    with pytest.raises(error):
        publish_bytes(b"x", f"s3://{s3.make_bucket()}/x")
    assert len(answers.sent) == 1


def test_labels_are_written_and_read_on_s3(s3, tmp_path):
    out = f"s3://{s3.make_bucket()}/x"
    job = open_job(out, {"keyframe_interval": 5}, classes=CAMVID, model_hash="m", storage_options=s3.options)
    assert open_job(out, {"keyframe_interval": 5}, classes=CAMVID, model_hash="m", storage_options=s3.options) == job
    footer = ShardFooter(
        job=job.fingerprint, video="v", uri="v.mp4", identity="i", time_base="1/25", shard=0, first_frame=0,
        model_hash="m", classes=CAMVID, precision="fp32", device="cpu", threads=1,
    )  # fmt: skip
    maps = [np.full((4, 6), i, np.uint8) for i in range(5)]
    with ShardWriter(
        shard_uri(out, "v", "000000"), footer=footer, spool_dir=tmp_path, storage_options=s3.options
    ) as writer:
        for i, labels in enumerate(maps):
            row = FrameRow(
                frame_index=i, pts=i, time_s=i / 25, is_keyframe=i == 0, keyframe_distance=i, height=4, width=6,
                pixels=pixel_counts(labels, 11), mask=encode_mask(labels),
            )  # fmt: skip
            writer.append(row)
    assert list_committed(out, s3.options) == {("v", "000000")}
    labels = open_labels(out, s3.options)
    np.testing.assert_array_equal(labels.labels_at("v", [4, 1]), np.stack([maps[4], maps[1]]))
    assert labels.frames.count_rows(filter=pads.field("pixels", "sky") > 0) == 1
    assert write_derived(out, complete=True, storage_options=s3.options)["rows"].to_pylist() == [5]


def uploads_and_keys(s3, bucket: str) -> tuple[list, list[str]]:
    client = s3.client()
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return uploads, [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03, 0.1])
def test_a_writer_killed_while_it_sends_leaves_nothing_or_all(s3, tmp_path, delay_s):
    source = tmp_path / "spool"
    source.write_bytes(bytes(40 << 20))
    bucket = s3.make_bucket()
    code = f"""
        from gsvnet.store.publish import publish_bytes, publish_file
        publish_bytes(b"", "s3://{bucket}/ready", {s3.options!r})
        print("ready", flush=True)
        publish_file({str(source)!r}, "s3://{bucket}/000000.parquet", {s3.options!r})
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        time.sleep(delay_s)
        child.kill()
    assert read_bytes(f"s3://{bucket}/000000.parquet", s3.options) in (None, source.read_bytes())
    assert uploads_and_keys(s3, bucket)[0] == []


_KILLER = """
    import sys
    import gsvnet.store.faults as faults, gsvnet.store.publish as publish, gsvnet.store.s3 as s3, s3fs
    from tests.dying import die_at_every_line

    bucket, options = sys.argv[1], eval(sys.argv[2])
    publish_step = lambda step: publish.publish_bytes(b"content", f"s3://{bucket}/{step:04d}", options)
    print(die_at_every_line([publish, faults, s3], publish_step))
"""


def test_killed_at_every_line_leaves_nothing_or_all_and_no_upload(s3):
    bucket = s3.make_bucket()
    command = [sys.executable, "-c", textwrap.dedent(_KILLER), bucket, repr(s3.options)]
    steps = int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    uploads, keys = uploads_and_keys(s3, bucket)
    contents = {key: read_bytes(f"s3://{bucket}/{key}", s3.options) for key in keys}
    assert uploads == []
    assert set(contents.values()) == {b"content"}
    assert f"{steps:04d}" in keys
    assert 1 < len(keys) < steps - 20  # killed after it was sent, and many times before
