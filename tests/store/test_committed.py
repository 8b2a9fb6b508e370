"""The set of shards that have labels, in few bytes."""

from __future__ import annotations

import sys

import pytest

from gsvnet.store.committed import Committed


@pytest.fixture
def committed() -> Committed:
    return Committed({("v", "000000"), ("v", "000003"), ("w", "1000000")})


def test_it_is_a_set_of_videos_and_shard_names(committed):
    assert committed == {("v", "000003"), ("w", "1000000"), ("v", "000000")}
    assert list(committed) == [("v", "000000"), ("v", "000003"), ("w", "1000000")]
    assert ("v", "000003") in committed
    assert ("v", "000001") not in committed
    assert ("x", "000000") not in committed


def test_shards_are_found_by_their_index(committed):
    assert [index for index in range(5) if committed.has("v", index)] == [0, 3]
    assert committed.indices("v") == [0, 3]
    assert committed.indices("x") == []
    assert committed.videos == ["v", "w"]


def test_a_file_listed_twice_counts_once(committed):
    committed.add("v", "000003")
    assert len(committed) == 3


@pytest.mark.parametrize("name", ["notes", "3", "0000003", "99999999999999", "video", "00000x"])
def test_names_that_are_no_shard_s_are_left_out(committed, name):
    committed.add("v", name)
    assert len(committed) == 3
    assert ("v", name) not in committed


def test_a_shard_takes_a_bit():
    committed = Committed()
    for index in range(20_000):
        committed.add("v", f"{index:06d}")
    assert sys.getsizeof(committed._bits["v"]) < 3_000
    assert len(committed) == 20_000
