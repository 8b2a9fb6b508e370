"""One suite for every kind of store: create-only, whole or not at all, one winner.

On Swift the condition is racy: several writers at once may all be told that they were first. What holds there is what
labels need: writers of one shard write the same bytes, and these are whole.
"""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gsvnet.errors import AlreadyPublished, ConfigError, StoreError, StoreUnavailable
from gsvnet.store.filesystem import read_bytes
from gsvnet.store.listing import list_files
from gsvnet.store.publish import publish_bytes, publish_file, replace_bytes


class Place:
    """A folder in some store. is_strict: of writers at once, the store lets one win; else several may."""

    def __init__(self, root: str, options: dict | None = None, *, is_strict: bool = True) -> None:
        self.root, self.options, self.is_strict = root, options, is_strict

    def uri(self, name: str = "labels/v/000000.parquet") -> str:
        return f"{self.root}/{name}"

    def read(self, name: str = "labels/v/000000.parquet") -> bytes | None:
        return read_bytes(self.uri(name), self.options)


@pytest.fixture(params=["local", "memory", *(pytest.param(name, marks=pytest.mark.s3) for name in ("moto", "swift"))])
def place(request, tmp_path) -> Place:
    if request.param == "local":
        return Place(str(tmp_path))
    if request.param == "memory":
        return Place(f"memory://{uuid.uuid4().hex}")
    server = request.getfixturevalue(f"{request.param}_s3")
    return Place(f"s3://{server.make_bucket()}", server.options, is_strict=request.param != "swift")


def test_published_bytes_read_back(place):
    publish_bytes(b"content", place.uri(), place.options)
    assert place.read() == b"content"


def test_published_file_reads_back_and_the_source_stays(place, tmp_path):
    source = tmp_path / "spool"
    source.write_bytes(os.urandom(3 << 20))
    publish_file(source, place.uri(), place.options)
    assert place.read() == source.read_bytes()


def test_second_publish_loses_and_the_first_content_stays(place):
    publish_bytes(b"first", place.uri(), place.options)
    with pytest.raises(AlreadyPublished, match="exists already"):
        publish_bytes(b"second", place.uri(), place.options)
    assert place.read() == b"first"


NAMES = ("labels/v/000000.parquet", "labels/v/000001.parquet", "labels/w/000000.parquet")


@pytest.mark.parametrize("name", NAMES)
def test_of_eight_racing_threads_one_wins(place, name):
    contents = [bytes([65 + i]) * 100_000 for i in range(8)]
    won = race(place, name, contents)
    if place.is_strict:
        assert won.count(True) == 1
    assert place.read(name) in [content for content, has_won in zip(contents, won) if has_won]


@pytest.mark.parametrize("name", NAMES)
def test_racing_writers_of_one_shard_leave_it_whole_whoever_wins(place, name):
    content = os.urandom(300_000)
    assert True in race(place, name, [content] * 8)
    assert place.read(name) == content
    with pytest.raises(AlreadyPublished):
        publish_bytes(content, place.uri(name), place.options)


def race(place: Place, name: str, contents: list[bytes]) -> list[bool]:
    """Which of the writers, that start together, are told that they were first."""
    start = Barrier(len(contents))
    with ThreadPoolExecutor(len(contents)) as pool:
        return list(pool.map(lambda content: _race(place, name, content, start), contents))


def _race(place: Place, name: str, content: bytes, start: Barrier) -> bool:
    start.wait()
    try:
        publish_bytes(content, place.uri(name), place.options)
    except AlreadyPublished:
        return False
    return True


def test_replace_overwrites_a_derived_file(place):
    replace_bytes(b"old", place.uri("_report.json"), place.options)
    replace_bytes(b"new", place.uri("_report.json"), place.options)
    assert place.read("_report.json") == b"new"


def test_a_missing_source_publishes_nothing(place, tmp_path):
    with pytest.raises(StoreError):
        publish_file(tmp_path / "absent", place.uri(), place.options)
    assert place.read() is None


def test_a_store_without_a_create_only_write_is_refused():
    with pytest.raises(ConfigError, match="--unsafe-commit"):
        publish_bytes(b"x", "http://127.0.0.1:9/labels/v/000000.parquet")


def test_unsafe_commit_still_sees_an_existing_object(monkeypatch):
    import gsvnet.store.publish as publish

    monkeypatch.delitem(publish._CREATE, "memory")
    uri = f"memory://{uuid.uuid4().hex}/x"
    publish_bytes(b"first", uri, unsafe_commit=True)
    with pytest.raises(AlreadyPublished):
        publish_bytes(b"second", uri, unsafe_commit=True)
    assert read_bytes(uri) == b"first"


class HalfwayFileSystem(MemoryFileSystem):
    """Breaks off in the middle of a write, as one over SFTP may."""

    protocol = "halfway"
    breaks_left = 0

    def pipe_file(self, path, value, **kwargs):
        if HalfwayFileSystem.breaks_left:
            HalfwayFileSystem.breaks_left -= 1
            super().pipe_file(path, value[:2])
            raise ConnectionResetError("broke off")
        super().pipe_file(path, value)


@pytest.mark.parametrize("breaks", [1, 2])
def test_unsafe_commit_takes_no_part_of_an_object_for_the_whole(monkeypatch, breaks):
    fsspec.register_implementation("halfway", HalfwayFileSystem, clobber=True)
    monkeypatch.setattr(HalfwayFileSystem, "breaks_left", breaks)
    monkeypatch.setattr("gsvnet.store.faults.RETRY_FOR_S", 0.0)
    uri = f"halfway://{uuid.uuid4().hex}/labels/v/000000.parquet"
    for _ in range(breaks):
        with pytest.raises(StoreUnavailable):
            publish_bytes(b"whole", uri, unsafe_commit=True)
        assert read_bytes(uri) is None
    publish_bytes(b"whole", uri, unsafe_commit=True)
    assert read_bytes(uri) == b"whole"
    assert len(list_files(uri.rpartition("/")[0])) == 1
