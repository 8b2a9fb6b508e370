from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import os
import re
import threading

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gsvnet.errors import NotAVideo, SourceChanged, SourceUnavailable, VideoNotFound
from gsvnet.store.layout import check_name
from gsvnet.video.explain import explain
from gsvnet.video.probe import open_container
from gsvnet.video.source import MediaFile, open_source, stat_source, video_id


def test_ids_ignore_credentials_and_query():
    assert video_id("https://u:p@h/drive.mp4?sig=1") == video_id("https://h/drive.mp4")


def test_ids_of_local_files_follow_the_real_path(tmp_path, monkeypatch):
    (tmp_path / "real.mp4").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    monkeypatch.chdir(tmp_path)
    ids = {video_id(u) for u in ("real.mp4", "link.mp4", f"file://{tmp_path}/real.mp4", str(tmp_path / "real.mp4"))}
    assert len(ids) == 1


@pytest.mark.parametrize("place", ["s3://{}/drive.mp4", "abfss://{}@lake.dfs.core.windows.net/drive.mp4"])
def test_ids_differ_for_one_name_in_two_places(place):
    assert video_id(place.format("a")) != video_id(place.format("b"))


@pytest.mark.parametrize(
    "name", ["_x.mp4", ".mp4", "..", "Straße 7 Ø.mp4", "a" * 300 + ".mp4", "%2e%2e.mp4", "x/", "-", "-lead.mp4"]
)
def test_ids_are_safe_file_names(name):
    found = check_name(video_id(f"s3://bucket/{name}"))
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}-[0-9a-f]{12}", found)


def test_identity_of_a_local_file_changes_with_its_time(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 10))
    assert stat_source(str(path)) == (5, "5:mtime:10")


class TaggedFileSystem(MemoryFileSystem):
    """Reports what an object store reports."""

    protocol = "tagged"
    extra: dict = {}  # noqa: RUF012  (set by each test)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("tagged://"))

    def info(self, path, **kwargs):
        record = super().info(path, **kwargs)
        return {"name": record["name"], "size": record["size"], "type": "file", **self.extra}


@pytest.mark.parametrize(
    ("extra", "identity"),
    [
        ({"VersionId": "v7", "ETag": '"e1"', "mtime": 3}, "5:version:v7"),
        ({"VersionId": "null", "ETag": '"e1"', "mtime": 3}, "5:etag:e1"),
        ({"VersionId": None, "mtime": 3}, "5:mtime:3000000000"),
        ({}, f"5:sha256:{hashlib.sha256(b'12345' + b'12345').hexdigest()}"),  # first and last MiB
    ],
)
def test_identity_takes_the_first_tag_that_the_store_gives(monkeypatch, extra, identity):
    fsspec.register_implementation("tagged", TaggedFileSystem, clobber=True)
    monkeypatch.setattr(TaggedFileSystem, "extra", extra)
    TaggedFileSystem().pipe("/a.mp4", b"12345")
    assert stat_source("tagged://a.mp4") == (5, identity)


@pytest.mark.parametrize("uri", ["/no/such/file.mp4", "memory://no/such/file.mp4", "file:///no/such.mp4"])
def test_missing_files_are_not_found(uri):
    for call in (stat_source, lambda u: open_source(u).__enter__()):
        with pytest.raises(VideoNotFound, match="nothing there"):
            call(uri)


class DenyingFileSystem(MemoryFileSystem):
    """Refuses everything, with a secret in its message."""

    protocol = "denying"

    def info(self, path, **kwargs):
        raise {"p": PermissionError, "r": RuntimeError}[path[-1]]("https://u:secret@host/?sig=secret")

    def _open(self, path, *args, **kwargs):
        return self.info(path)


@pytest.mark.parametrize(("name", "reason"), [("p", "no permission"), ("r", "RuntimeError.*check address")])
def test_storage_errors_become_one_line_without_secrets(name, reason):
    fsspec.register_implementation("denying", DenyingFileSystem, clobber=True)
    for call in (stat_source, lambda u: open_source(u).__enter__()):
        with pytest.raises(VideoNotFound, match=reason) as caught:
            call(f"denying://bucket/{name}")
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.uri == f"denying://bucket/{name}"


def test_unknown_schemes_are_explained():
    with pytest.raises(VideoNotFound, match="ValueError"):
        stat_source("nosuchscheme://a/b.mp4")


def test_folders_empty_files_and_pipes_are_refused_at_once(tmp_path):
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in ((".", "not a regular file"), ("empty.mp4", "empty"), ("pipe.mp4", "not a regular file")):
        for call in (stat_source, lambda u: open_source(u).__enter__()):
            with pytest.raises(NotAVideo, match=reason):
                call(str(tmp_path / name))


def test_an_opened_file_must_stay_the_planned_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    identity = stat_source(str(path))[1]
    with pytest.raises(SourceChanged, match="changed since it was planned"), open_source(str(path), identity="5:old"):
        pass
    with pytest.raises(SourceChanged), open_source(str(path), identity=identity):
        os.utime(path, ns=(1, 10))
    os.utime(path, ns=(1, 20))
    with open_source(str(path), identity=stat_source(str(path))[1]) as source:
        path.unlink()  # what is open stays readable, and is the planned file
        assert source.read(5) == b"12345"


def test_an_error_while_reading_is_raised_even_where_ffmpeg_hides_it(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")

    def fail(*arguments):
        raise OSError(errno.ESTALE, "Stale file handle")

    def read(then: Exception | None) -> None:
        with open_source(str(path)) as source:
            with contextlib.suppress(SourceUnavailable):
                source.read(5)
            if then:
                raise then

    monkeypatch.setattr(os, "pread", fail)
    for hidden_by in (None, NotAVideo("not a readable video container")):
        with pytest.raises(SourceUnavailable, match="Stale file handle"):
            read(hidden_by)


def test_a_source_that_failed_is_not_asked_again(zoo, small_windows):
    data = zoo("b_frames_ts").read_bytes()
    asked = []

    def fetch(start: int, num_bytes: int) -> bytes:
        asked.append(start)
        if len(asked) > 1:
            raise TimeoutError("gone")
        return data[start : start + num_bytes]

    source = MediaFile(fetch, len(data), uri="s3://b/a.ts")
    with pytest.raises(SourceUnavailable, match="gone"), open_container(source, "s3://b/a.ts"):
        pass
    assert len(asked) == 2


@pytest.fixture
def web_server():
    """web_server(status) -> address of a video on a server that gives this answer to everything."""
    with contextlib.ExitStack() as stack:

        def start(status: int) -> str:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_error(status)

                def do_HEAD(self):
                    self.send_error(status)

                def log_message(self, *arguments):
                    pass

            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/a.mp4"

        yield start


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, VideoNotFound, "nothing there"),
        (403, VideoNotFound, r"cannot be read \(ClientResponseError: 403.*check address, credentials"),
        (503, SourceUnavailable, r"storage does not answer \(ClientResponseError: 503"),
    ],
)
def test_web_servers_that_refuse_or_fail_do_not_count_as_without_the_video(monkeypatch, web_server, status, kind, said):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("gsvnet.outages.RETRY_FOR_S", 0.0)
    uri = web_server(status)
    for call in (stat_source, lambda u: open_source(u).__enter__()):
        with pytest.raises(kind, match=said) as caught:
            call(f"{uri}?sig=secret")
        assert "secret" not in str(caught.value)


def test_a_web_server_that_is_gone_is_an_outage(monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("gsvnet.outages.RETRY_FOR_S", 0.0)
    with pytest.raises(SourceUnavailable, match="storage does not answer"):
        stat_source("http://127.0.0.1:1/a.mp4")


@pytest.mark.parametrize("code", ["ExpiredToken", "400"], ids=["to a GET", "to a HEAD"])
def test_credentials_that_expire_under_a_job_are_no_verdict_on_its_videos(code):
    botocore = pytest.importorskip("botocore.exceptions")
    errors = pytest.importorskip("s3fs.errors")
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    error = errors.translate_boto_error(botocore.ClientError(answer, "HeadObject"))
    found = explain(error, "s3://b/a.mp4")
    assert type(found) is SourceUnavailable
    assert "the credentials have expired" in str(found)
