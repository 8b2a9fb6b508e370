"""Listings of any length go page by page, with one request per 1,000 objects."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from gsvnet.store import s3
from gsvnet.store.layout import list_committed, list_label_files
from gsvnet.store.listing import list_files, list_pages
from gsvnet.store.manifest import write_derived


@pytest.fixture
def count_requests(monkeypatch) -> Counter:
    """How often each operation was asked of S3."""
    counts: Counter[str] = Counter()
    call = s3._call

    async def count_and_call(fs, operation, path, **request):
        counts[operation] += 1
        return await call(fs, operation, path, **request)

    monkeypatch.setattr(s3, "_call", count_and_call)
    return counts


def fill(bucket: str, num_videos: int, num_shards: int) -> None:
    """Empty label files, put into moto without requests."""
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]
    for video in range(num_videos):
        for shard in range(num_shards):
            backend.put_object(bucket, f"out/labels/v{video:04d}/{shard:06d}.parquet", b"")


@pytest.mark.s3
def test_objects_are_listed_with_one_request_per_thousand(moto_s3, count_requests):
    bucket = moto_s3.make_bucket()
    fill(bucket, 50, 70)
    committed = list_committed(f"s3://{bucket}/out", moto_s3.options)
    assert len(committed) == 3_500
    assert committed.indices("v0049") == list(range(70))
    assert count_requests == {"list_objects_v2": 4}


@pytest.mark.s3
@pytest.mark.slow
def test_a_hundred_thousand_objects_are_a_hundred_requests(moto_s3, count_requests):
    bucket = moto_s3.make_bucket()
    fill(bucket, 1_000, 100)
    assert len(list_committed(f"s3://{bucket}/out", moto_s3.options)) == 100_000
    assert count_requests == {"list_objects_v2": 100}


@pytest.mark.s3
def test_describing_an_output_asks_nothing_per_known_object(moto_s3, write_shard, tmp_path, count_requests):
    write_shard(str(tmp_path / "out"))
    [file] = (tmp_path / "out").glob("labels/*/*.parquet")
    bucket = moto_s3.make_bucket()
    moto_s3.client().upload_file(str(file), bucket, f"out/labels/v/{file.name}")
    moto_s3.client().upload_file(str(tmp_path / "out" / "_job.json"), bucket, "out/_job.json")
    for reads in (2, 0):  # the job's record, and the label file
        count_requests.clear()
        assert len(write_derived(f"s3://{bucket}/out", complete=True, storage_options=moto_s3.options)) == 1
        manifest_reads = 1
        assert count_requests == Counter(
            list_objects_v2=1, get_object=manifest_reads + reads, put_object=3, delete_object=1
        )


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto_s3", "swift_s3"])
def test_names_of_every_kind_come_back_from_s3_as_they_are(request, server):
    server = request.getfixturevalue(server)
    bucket = server.make_bucket()
    names = ["labels/v/000000.parquet", "labels/東京-1/000000.parquet", "labels/w+ü &%2F/000001.parquet", "other/x"]
    for name in names:
        server.client().put_object(Bucket=bucket, Key=f"out/{name}", Body=b"12")
    assert list_files(f"s3://{bucket}/out", server.options) == sorted(f"{bucket}/out/{name}" for name in names)
    assert {file.size for page in list_pages(f"s3://{bucket}/out", server.options) for file in page} == {2}
    assert list_files(f"s3://{bucket}/ou", server.options) == []


@pytest.mark.s3
def test_pages_follow_each_other_on_swift(swift_s3, monkeypatch):
    call = s3._call

    async def small_pages(fs, operation, path, **request):
        return await call(fs, operation, path, **request | {"MaxKeys": 7})

    monkeypatch.setattr(s3, "_call", small_pages)
    bucket = swift_s3.make_bucket()
    for index in range(20):
        swift_s3.client().put_object(Bucket=bucket, Key=f"labels/v/{index:06d}.parquet")
    assert [len(page) for page in list_pages(f"s3://{bucket}", swift_s3.options)] == [7, 7, 6]


def test_local_files_are_listed_below_links_and_without_what_vanishes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "labels" / "v").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "000000.parquet").write_bytes(b"123")
    (tmp_path / "elsewhere" / "000001.parquet").symlink_to(tmp_path / "gone")
    assert [path.rpartition("/")[2] for path in list_label_files(str(tmp_path / "out"))] == ["000000.parquet"]


def test_a_page_of_local_files_is_never_longer_than_one_of_s3(tmp_path):
    for index in range(2_100):
        os.mknod(tmp_path / str(index))
    assert [len(page) for page in list_pages(str(tmp_path))] == [1_000, 1_000, 100]


def test_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    for name in ("here/deep/a.mp4", "there/b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "deep" / "loop").symlink_to(tmp_path / "here")
    found = list_files(str(tmp_path / "here"))
    assert found == [str(tmp_path / "here" / name) for name in ("deep/a.mp4", "linked/b.mp4")]
