"""cluster/README.md lists the rights that a job needs on S3; these are the requests that a job makes."""

from __future__ import annotations

import re

import pytest

import gsvnet

RIGHT = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
}


@pytest.fixture
def requests(monkeypatch):
    """(operation, key) of every request that this process sends to S3."""
    client = pytest.importorskip("aiobotocore.client").AioBaseClient
    send, seen = client._make_api_call, []

    async def record(self, operation, parameters):
        seen.append((operation, parameters.get("Key", "")))
        return await send(self, operation, parameters)

    monkeypatch.setattr(client, "_make_api_call", record)
    return seen


def test_a_job_needs_the_rights_that_the_document_lists_and_no_others(
    moto_s3, requests, label_config, drive, cluster_dir
):
    bucket = moto_s3.make_bucket()
    for name, content in (("drive.mp4", drive.read_bytes()), ("broken.mp4", b"no video" * 500)):
        moto_s3.client().put_object(Bucket=bucket, Key=f"videos/{name}", Body=content)
    options = {"storage_options": moto_s3.options, "video_options": moto_s3.options}
    config = label_config(videos=(f"s3://{bucket}/videos/",), out=f"s3://{bucket}/out", **options)
    assert gsvnet.label(config).exit_code == 3
    moto_s3.client().put_object(Bucket=bucket, Key="videos/broken.mp4", Body=drive.read_bytes())
    again = label_config(videos=config.videos, out=config.out, retry_failed=True, **options)
    assert gsvnet.label(again).exit_code == 0

    text = (cluster_dir / "README.md").read_text().partition("## Access")[2].partition("\n## ")[0]
    assert {RIGHT[operation] for operation, _ in requests} == set(re.findall(r"`(s3:\w+)`", text))
    written = {key.split("/")[0] for operation, key in requests if operation in ("PutObject", "DeleteObject")}
    assert written == {"out"}
    deleted = {key.split("/")[1] for operation, key in requests if operation == "DeleteObject"}
    assert deleted <= {"_failed", "_probe", "_SUCCESS"}
