"""A compacted file's footer lists its shards, and reads back as it was written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store.sources import Source, SourceFile, compacted_metadata, is_compacted, parse_sources


def as_stored(metadata):
    return {key.encode(): value.encode() for key, value in metadata.items()}


@pytest.fixture
def sources(footer) -> tuple[Source, ...]:
    file = SourceFile(path="labels/drive-0123456789ab/000003.parquet", num_bytes=1234, sha256="c" * 64)
    other = replace(footer, video="東京-0", uri='s3://x/"a b".mp4', shard=3, first_frame=30, motion="proxy")
    other = replace(other, backed_off_to=2)
    return (
        Source(footer=footer, row=0, num_rows=10),
        Source(footer=replace(footer, shard=1, first_frame=10), row=10, num_rows=1, file=file),
        Source(footer=other, row=11, num_rows=7, file=file),
    )


def test_sources_read_back(sources):
    metadata = as_stored(compacted_metadata(sources))
    assert parse_sources(metadata, "x") == sources
    assert is_compacted(metadata)


def test_a_shards_own_footer_is_one_source(footer):
    metadata = as_stored(footer.to_metadata(10))
    assert parse_sources(metadata, "x") == (Source(footer=footer, row=0, num_rows=10),)
    assert not is_compacted(metadata)


def test_many_sources_share_one_class_set(sources):
    first, second, third = parse_sources(as_stored(compacted_metadata(sources)), "x")
    assert first.footer.classes is second.footer.classes is third.footer.classes


@pytest.mark.parametrize("listed", ["", "{", "[1]", "[{}]", '[{"video": "v"}]', "3", '{"a": 1}'])
def test_a_list_that_is_none_is_corrupt(sources, listed):
    metadata = as_stored(compacted_metadata(sources) | {"gsvnet.sources": listed})
    with pytest.raises(CorruptLabels, match="x is no label file"):
        parse_sources(metadata, "x")


@pytest.mark.parametrize(
    ("key", "value"), [(b"gsvnet.classes", b'{"nam": "x"}'), (b"gsvnet.classes", b"\xff"), (b"gsvnet.\xff", b"x")]
)
def test_damaged_keys_are_corrupt_and_nothing_else(footer, key, value):
    with pytest.raises(CorruptLabels, match="x is no label file"):
        parse_sources(as_stored(footer.to_metadata(1)) | {key: value}, "x")


def test_a_newer_version_asks_for_an_upgrade(sources):
    metadata = as_stored(compacted_metadata(sources) | {"gsvnet.schema_version": "2"})
    with pytest.raises(StoreError, match="upgrade"):
        parse_sources(metadata, "x")


def test_only_what_differs_is_listed_by_shard(sources):
    metadata = compacted_metadata(sources)
    listed = json.loads(metadata["gsvnet.sources"])
    assert {"classes", "job", "model_hash", "schema_version"}.isdisjoint(listed[0])
    assert (metadata["gsvnet.num_rows"], listed[1]["bytes"], listed[1]["num_rows"]) == ("18", 1234, "1")
