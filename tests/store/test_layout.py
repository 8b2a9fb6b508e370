"""Names in an output never leave it, and one listing finds what is committed."""

from __future__ import annotations

import pytest

from gsvnet.errors import ConfigError, MissingExtra, StoreError
from gsvnet.store.filesystem import has_object, open_filesystem, read_bytes
from gsvnet.store.layout import (
    check_name,
    failure_uri,
    job_uri,
    labels_uri,
    list_committed,
    list_label_files,
    parse_label_path,
    plan_uri,
    shard_uri,
)
from gsvnet.store.listing import list_files
from gsvnet.uris import redact_uri


@pytest.mark.parametrize("name", ["drive-0123456789ab", "000000", "a.b", "東京-0123456789ab", "a__b", "x" * 200])
def test_readable_names_are_allowed(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "_derived",
        "-x",
        "a b",
        "a\n",
        "a=b",
        "a*b",
        "a?b",
        "a\0b",
        "%2e",
    ]
    + ["x" * 201, "é" * 150],
)
def test_names_that_could_leave_the_output_or_be_skipped_are_refused(name):
    with pytest.raises(ConfigError, match="is no name"):
        check_name(name)
    for build in (plan_uri, failure_uri, lambda out, n: shard_uri(out, n, "0"), lambda out, n: shard_uri(out, "v", n)):
        with pytest.raises(ConfigError):
            build("out", name)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("labels/a-0/000012.parquet", ("a-0", 12)),
        ("labels/compacted/1000000.parquet", ("compacted", 1_000_000)),
        ("labels/a-0/0000012.parquet", None),
        ("labels/a-0/00012.parquet", None),
        ("labels/a-0/x.parquet", None),
        ("labels/a-0/000012.parquet.bak", None),
        ("labels/a/b/000012.parquet", None),
        ("labels/000012.parquet", None),
        ("other/a-0/000012.parquet", None),
    ],
)
def test_only_a_shards_own_name_is_one(path, place):
    assert parse_label_path(path) == place


def test_places_are_as_documented():
    assert job_uri("s3://b/out/") == "s3://b/out/_job.json"
    assert labels_uri("/out") == "/out/labels"
    assert shard_uri("out", "v", "000001") == "out/labels/v/000001.parquet"
    assert plan_uri("out", "v") == "out/_plan/v.json"
    assert failure_uri("out", "v", "000001") == "out/_failed/v/000001.json"
    assert failure_uri("out", "v") == "out/_failed/v/video.json"


def test_committed_shards_are_listed_and_nothing_else(tmp_path):
    for name in (
        "v/000001.parquet",
        "v/000000.parquet",
        "w/000000.parquet",
        "v/.gsvnet-h-1-2.tmp",
        "v/.000002.parquet",
    ):
        path = tmp_path / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list_committed(str(tmp_path)) == {("v", "000000"), ("v", "000001"), ("w", "000000")}
    names = [path.partition("/labels/")[2] for path in list_label_files(str(tmp_path))]
    assert names == ["v/000000.parquet", "v/000001.parquet", "w/000000.parquet"]


def test_a_shard_of_seven_digits_comes_after_those_of_six(tmp_path):
    for name in ("v/1000000.parquet", "v/999998.parquet", "v/999999.parquet", "w/000000.parquet"):
        path = tmp_path / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = [path.partition("/labels/")[2] for path in list_label_files(str(tmp_path))]
    assert names == ["v/999998.parquet", "v/999999.parquet", "v/1000000.parquet", "w/000000.parquet"]


@pytest.mark.parametrize("out", ["{tmp}/absent", "memory://absent-output"])
def test_an_output_that_is_not_there_has_nothing_committed(tmp_path, out):
    assert list_committed(out.format(tmp=tmp_path)) == set()
    assert read_bytes(out.format(tmp=tmp_path) + "/_job.json") is None


def test_an_unknown_protocol_is_a_config_error():
    with pytest.raises(ConfigError, match="nosuch"):
        open_filesystem("nosuch://bucket/x")


def test_a_missing_driver_names_its_extra(monkeypatch):
    import fsspec

    def no_driver(uri, **options):
        raise ImportError("install gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", no_driver)
    with pytest.raises(MissingExtra, match=r"gsvnet\[gcs\]"):
        open_filesystem("gs://bucket/x")


def test_an_unreadable_object_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="cannot read"):
        read_bytes(str(tmp_path))  # a folder
    (tmp_path / "file").touch()
    assert list_files(str(tmp_path / "file")) in ([], [str(tmp_path / "file")])


def test_messages_show_no_credentials():
    assert redact_uri("https://user:pw@host/a.mp4?X-Amz-Signature=abc") == "https://host/a.mp4"
    assert redact_uri("s3://bucket/a.mp4") == "s3://bucket/a.mp4"
    assert redact_uri("/data/a@b?c.mp4") == "/data/a@b?c.mp4"


@pytest.mark.s3
def test_one_request_tells_whether_an_object_is_there(moto_s3, tmp_path):
    out = f"s3://{moto_s3.make_bucket()}/out"
    fs, path = open_filesystem(out, moto_s3.options)
    fs.pipe_file(f"{path}/there", b"x")
    assert has_object(f"{out}/there", moto_s3.options)
    assert not has_object(f"{out}/missing", moto_s3.options)
    (tmp_path / "there").touch()
    assert has_object(str(tmp_path / "there"))
    assert not has_object(str(tmp_path / "missing"))
